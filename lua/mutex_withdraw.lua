-- mutex_withdraw: release what this owner has, if anything, and refuse it from now on: for a release or an acquire
-- whose outcome is unknown and whose bytes may still arrive.
--
-- KEYS[1]  lease key
-- KEYS[2]  fence key, as in mutex_acquire
-- ARGV[1]  owner id
-- ARGV[2]  how long to remember, milliseconds
-- Returns  1 when this owner had the lease, 0 when not
-- Retry    safe: what is withdrawn stays withdrawn
local lease, fence, owner, memory = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local call = redis.call

-- The DEL comes first: a server that is out of memory lets a script write whose first write frees some.
local held = 0
if call('GET', lease) == owner then
  held = call('DEL', lease)
end

local now = call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local record = call('GET', fence) or '0000000000000000'
local kept = ''
for line, forgotten, who in string.gmatch(record, '(\n(%d+) ([^\n]*))') do
  if tonumber(forgotten) > ms and who ~= owner then kept = kept .. line end
end
record = '~' .. string.match(record, '%d+') .. kept .. string.format('\n%.0f %s', ms + memory, owner)
call('SET', fence, record, 'PX', '172800000')
return held
