-- fenced_get: a fenced value, and the token to beat.
--
-- KEYS[1]  value key
-- KEYS[2]  token key
-- Returns  {the value or nil, the largest token seen or nil}
-- Retry    safe: it writes nothing
return {redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])}
