-- counter_set: give a counter a value.
--
-- KEYS[1]  counter key
-- ARGV[1]  the value, a decimal 64-bit integer
-- ARGV[2]  time to live in milliseconds, or '' for none
-- Returns  the value before as a string, or nil where there was none
-- Retry    unsafe: it could undo what others added since
local key, value, ttl = KEYS[1], ARGV[1], ARGV[2]
local before = redis.call('GET', key)
if before then
  -- What is no number is somebody else's, and stays.
  local checked = redis.pcall('INCRBY', key, 0)
  if type(checked) == 'table' then return checked end
end
if ttl == '' then
  redis.call('SET', key, value)
else
  redis.call('SET', key, value, 'PX', ttl)
end
return before
