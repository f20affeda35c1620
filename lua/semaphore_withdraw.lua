-- semaphore_withdraw: let go of what this owner has or waits for, and refuse it from now on if asked to: for one who gives up waiting,
-- and for a release or an acquire whose outcome is unknown and whose bytes may still arrive.
--
-- KEYS[1]  permits key
-- KEYS[2]  fence key
-- KEYS[3]  queue key
-- ARGV[1]  owner id
-- ARGV[2]  how many permits it has or wants
-- ARGV[3]  how long to remember, milliseconds; 0: no late duplicate is possible
-- Returns  1 when this owner had permits, 0 when not
-- Retry    safe: what is withdrawn stays withdrawn
local permits, fence, queue, owner, memory = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[3]
local call = redis.call
local now = call('TIME')
-- include permit_queue
-- What must be done comes first, whatever else fails. And a full server lets a script write whose first write frees something, also if
-- it removes nothing.
local had = call('ZREM', permits, ARGV[2] .. ' ' .. owner)
for _, entry in ipairs(call('LRANGE', queue, 0, -1)) do
  if string.find(entry, ' ' .. owner .. ' ', 1, true) then call('LREM', queue, 1, entry) end
end
if memory ~= '0' and not refused[owner] then
  lines = lines .. string.format('\n%.0f %s', ms + memory, owner)
  save()
end
-- One who waited for many may have stood before others who want few.
if call('EXISTS', queue) == 1 then
  serve()
  save()
end
return had
