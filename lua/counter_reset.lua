-- counter_reset: forget a counter.
--
-- KEYS[1]  counter key
-- Returns  the value before as a string, or nil where there was none
-- Retry    unsafe: it could undo what others added since
local before = redis.call('GET', KEYS[1])
redis.call('DEL', KEYS[1])
return before
