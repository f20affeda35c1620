-- mutex_inspect: who has the lock and who waits for it, as it stands.
--
-- KEYS[1]  lease key
-- KEYS[2]  fence key
-- KEYS[3]  queue key
-- KEYS[4]  readers key
-- Returns  {the lease's value or nil, its milliseconds left, the last token, server time in microseconds, the queue's entries, the
--          readers' owner ids and milliseconds left in turn}
-- Retry    safe: it writes nothing
local call = redis.call
local now = call('TIME')
local us = now[1] .. string.sub('00000', #now[2]) .. now[2]
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local readers = {}
for i, part in ipairs(call('ZRANGE', KEYS[4], 0, -1, 'WITHSCORES')) do
  readers[i] = i % 2 == 1 and part or string.format('%.0f', part - ms)
end
local record = call('GET', KEYS[2]) or '0'
return {call('GET', KEYS[1]), call('PTTL', KEYS[1]), string.match(record, '%d+'), us, call('LRANGE', KEYS[3], 0, -1), readers}
