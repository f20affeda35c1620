-- latch_inspect: how far the latch is, as it stands.
--
-- KEYS[1]  latch key
-- KEYS[2]  waiters key
-- Returns  {how many are left and how many there were, or nil and nil where there is no latch, how many wait}
-- Retry    safe: it writes nothing
local now = redis.call('TIME')
local left, total = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+)')
local ms = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
return {left or false, total or false, redis.call('ZCOUNT', KEYS[2], ms, '+inf')}
