-- mutex_adopt: take a lease over from an owner who has detached it.
--
-- KEYS[1]  lease key
-- KEYS[2]  fence key
-- KEYS[3]  queue key
-- KEYS[4]  readers key
-- ARGV[1]  owner id that detached it
-- ARGV[2]  owner id that takes it
-- ARGV[3]  time to live, milliseconds
-- ARGV[4]  how long to refuse what the first owner may still have under way, milliseconds; 0: nothing is
-- Returns  milliseconds left; 0 when neither of the two has the lease
-- Retry    safe: it finds itself the owner, and nothing is extended
local call = redis.call
local lease, fence, queue, readers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local value = call('GET', lease) or ''
local marks, owner = string.match(value, '^(~*)(.*)$')
if owner == ARGV[2] then return call('PTTL', lease) end
if owner ~= ARGV[1] then return 0 end
local now = call('TIME')
-- include lock_queue
-- A full server lets a script write whose first write frees something.
call('DEL', lease)
call('SET', lease, marks .. ARGV[2], 'PX', ARGV[3])
if ARGV[4] ~= '0' then
  local record = call('GET', fence) or '0000000000000000'
  local lines = remembered(record)
  lines = lines .. string.format('\n%.0f %s', ms + ARGV[4], ARGV[1])
  call('SET', fence, '~' .. string.match(record, '%d+') .. lines, 'PX', keep)
else
  call('PEXPIRE', fence, keep)
end
return tonumber(ARGV[3])
