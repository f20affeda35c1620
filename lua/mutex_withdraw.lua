-- mutex_withdraw: let go of what this owner has or waits for, and refuse it from now on if asked to: for one who gives up waiting, and
-- for a release or an acquire whose outcome is unknown and whose bytes may still arrive. As a writer or as a reader.
--
-- KEYS[1]  lease key
-- KEYS[2]  fence key
-- KEYS[3]  queue key
-- KEYS[4]  readers key
-- ARGV[1]  owner id
-- ARGV[2]  how long to remember, milliseconds; 0: no late duplicate is possible
-- Returns  1 when this owner had the lease, 0 when not
-- Retry    safe: what is withdrawn stays withdrawn
local lease, fence, queue, readers, owner, memory = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], ARGV[2]
local call = redis.call
local now = call('TIME')
-- include lock_queue
-- include lock_memory

-- What must be done comes first, whatever else fails. And a full server lets a script write whose first write frees something: the
-- LREM, which removes nothing, is one.
local value = call('GET', lease)
local held = value == owner or value == '~' .. owner or value == '~~' .. owner
if held then call('DEL', lease) end
call('LREM', queue, 1, '')
dismiss({owner}, memory)
if held then
  pass_on(value == '~~' .. owner, '~')
  return 1
end
if value and string.find(value, '^~*%%') and call('ZREM', readers, owner) == 1 then
  if not phase_goes_on() then pass_on(false, '~~') end
  return 1
end
if not value then pass_on(false, '~~') end
return 0
