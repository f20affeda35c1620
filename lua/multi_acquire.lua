-- multi_acquire: take several locks at once, or none of them.
--
-- KEYS[1..n]  of each lock in turn its lease, fence, queue and readers key
-- ARGV[1]  owner id, the same for all
-- ARGV[2]  time to live, milliseconds
-- ARGV[3]  t: no free lock for which others wait; T: also past those
-- Returns  {token, milliseconds left} of each lock in one row when all are granted; {0, milliseconds the holder has left, who it is,
--          which lock, from 0} when one is not; {-1, 0} when this owner has withdrawn. Numbers may come as strings
-- Retry    safe: the same owner gets the same tokens and what is left; nothing is extended
local owner, ttl = ARGV[1], ARGV[2]
local call = redis.call
local now = call('TIME')
local lease, fence, queue, readers
-- include lock_queue
local function own(value) return value == owner or value == '~' .. owner or value == '~~' .. owner end

-- The parts above speak of the lock that is looked at.
for i = 1, #KEYS, 4 do
  lease, fence, queue, readers = KEYS[i], KEYS[i + 1], KEYS[i + 2], KEYS[i + 3]
  local record = call('GET', fence) or ''
  local value = call('GET', lease)
  if not value then
    local _, refused = remembered(record, owner)
    if refused then return {-1, 0} end
    if string.byte(record) == 126 and ARGV[3] == 't' and grant(false, '~~') then value = call('GET', lease) end
  end
  if value and not own(value) then return {0, call('PTTL', lease), value, (i - 1) / 4} end
end

local answer = {}
for i = 1, #KEYS, 4 do
  lease, fence, queue, readers = KEYS[i], KEYS[i + 1], KEYS[i + 2], KEYS[i + 3]
  if call('EXISTS', lease) == 1 then
    answer[#answer + 1] = string.match(call('GET', fence) or '0', '%d+')
    answer[#answer + 1] = call('PTTL', lease)
  else
    local queued = call('EXISTS', queue) == 1
    call('SET', lease, queued and '~~' .. owner or owner, 'PX', ttl)
    answer[#answer + 1] = next_token(queued)
    answer[#answer + 1] = ttl
  end
end
return answer
