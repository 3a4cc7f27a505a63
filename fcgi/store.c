/* Not where all stores find what they share: that would make a circle of them. */
#include "fcgi/store_internal.h"

void
store_prepare(void)
{
	store_session_prepare();
	store_caller_prepare();
	store_state_prepare();
	store_integration_prepare();
	store_integration_write_prepare();
	store_rotate_prepare();
	store_lease_prepare();
	store_limit_prepare();
	store_shared_grant_prepare();
	store_pending_revocation_prepare();
	store_use_prepare();
}
