-- A claim on pending revocations ends by itself: later than a revocation may take (TOKENS_REVOKE_MS).
local CLAIM_MS = '4000'
