-- list_fill: append to a plain list, of which nothing else is kept, unless that would exceed its cap.
--
-- KEYS[1]  list key
-- ARGV[1]  the most items to keep
-- ARGV[2]  time to live in milliseconds, or '' to leave it alone
-- ARGV[3..]  items, oldest first
-- Returns  {length afterwards, 1 when applied, 0 when rejected}
-- Retry    unsafe: a repetition pushes again
local list, call = KEYS[1], redis.call
local length = call('LLEN', list)
if length + #ARGV - 2 > tonumber(ARGV[1]) then return {length, 0} end
length = call('RPUSH', list, unpack(ARGV, 3))
if ARGV[2] ~= '' then call('PEXPIRE', list, ARGV[2]) end
return {length, 1}
