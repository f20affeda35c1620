-- mutex_reserve: set tokens aside for passing the lease on among the threads of its owner's process.
--
-- KEYS[1]  lease key
-- KEYS[2]  fence key
-- ARGV[1]  owner id
-- ARGV[2]  how many
-- Returns  the first of them, as text; 0 when this owner does not have the lease
-- Retry    safe: a repetition sets others aside
local call = redis.call
local value, owner = call('GET', KEYS[1]), ARGV[1]
if value ~= owner and value ~= '~' .. owner and value ~= '~~' .. owner then return 0 end
local now = call('TIME')
local us = now[1] .. string.sub('00000', #now[2]) .. now[2]
local record = call('GET', KEYS[2]) or '0000000000000000'
local given = string.match(record, '%d+')
local first = given >= us and given + 1 or tonumber(us)
local last = string.format('%016.0f', first + ARGV[2] - 1)
call('SET', KEYS[2], (string.gsub(record, '%d+', last, 1)), 'PX', '172800000')
return string.format('%016.0f', first)
