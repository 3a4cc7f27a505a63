/* Not where all stores find what they share: that would make a circle of them. */
#include "fcgi/store_internal.h"

void
store_prepare(void)
{
	store_caller_prepare();
	store_integration_prepare();
}
