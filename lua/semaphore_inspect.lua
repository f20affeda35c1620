-- semaphore_inspect: who holds permits and who waits for some, as it stands.
--
-- KEYS[1]  permits key
-- KEYS[2]  fence key
-- KEYS[3]  queue key
-- Returns  {how many permits there are, or 0 while nobody uses it, server time in milliseconds, holders in the order in which they end:
--          "<how many> <owner>" and milliseconds left in turn, the queue's entries}
-- Retry    safe: it writes nothing
local call = redis.call
local now = call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local holders = call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', ms), '+inf', 'WITHSCORES')
for i = 2, #holders, 2 do holders[i] = string.format('%.0f', holders[i] - ms) end
local waiters = call('LRANGE', KEYS[3], 0, -1)
local limit = '0'
if #holders + #waiters > 0 then limit = string.match(call('GET', KEYS[2]) or '', '^%d+ (%d+)') or '0' end
return {limit, string.format('%.0f', ms), holders, waiters}
