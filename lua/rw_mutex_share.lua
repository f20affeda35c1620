-- rw_mutex_share: join the readers of a lock, or wait for the next phase of readers if asked to. A phase takes no more readers while a
-- writer waits; when the phase ends that writer has his turn, and then all readers who wait have theirs.
--
-- KEYS[1]  lease key, as in mutex_acquire
-- KEYS[2]  fence key
-- KEYS[3]  queue key
-- KEYS[4]  readers key: owner ids by the end of their leases, milliseconds of server time
-- ARGV[1]  owner id
-- ARGV[2]  time to live, milliseconds
-- ARGV[3]  r
-- ARGV[4..n]  only to wait: as in mutex_acquire
-- Returns  as mutex_acquire; the token is the phase's
-- Retry    safe: the same owner gets the same token and what is left; nothing is extended. Not with ticket '0'
local lease, fence, queue, readers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local owner, ttl, kind = ARGV[1], ARGV[2], ARGV[3]
local call = redis.call
local now = call('TIME')
-- include lock_queue

local record = call('GET', fence) or ''
local queued = string.byte(record) == 126
if queued then
  local _, refused = remembered(record, owner)
  if refused then return {-1, 0} end
end
local value = call('GET', lease)
if not value and (not queued or not grant(false, '~~')) then
  local waited_for = queued and call('EXISTS', queue) == 1
  -- First: a full server refuses a script whose first write needs room, and would let all of it pass behind the DEL.
  local token = next_token(waited_for)
  call('DEL', readers)
  call('ZADD', readers, ms + ttl, owner)
  call('PEXPIRE', readers, ttl)
  call('SET', lease, (waited_for and '~~%' or '%') .. token, 'PX', ttl)
  return {token, ttl}
end
value = value or call('GET', lease)
local phase = string.match(value, '^~*%%(%d+)$')
if phase then
  local last = call('ZSCORE', readers, owner)
  if last and tonumber(last) > ms then return {phase, math.floor(last - ms)} end
  local writer_waits, mine = false, nil
  if string.byte(value) == 126 then
    for _, entry in ipairs(call('LRANGE', queue, 0, -1)) do
      local dead, _, _, its_kind, whose = string.match(entry, parts)
      writer_waits = writer_waits or (its_kind ~= 'r' and tonumber(dead) >= ms)
      if whose == owner then mine = entry end
    end
  end
  if not writer_waits then
    if mine then call('LREM', queue, 1, mine) end
    call('ZADD', readers, ms + ttl, owner)
    if call('PTTL', lease) < tonumber(ttl) then
      call('PEXPIRE', lease, ttl)
      call('PEXPIRE', readers, ttl)
    end
    return {phase, ttl}
  end
end
if not ARGV[4] then return {0, call('PTTL', lease), value} end
-- include lock_wait
return wait(value, owner, ARGV[4], kind, ARGV[5], ARGV[6], ARGV[7])
