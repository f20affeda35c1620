-- quorum_release: take back on this server what this owner has, if anything; refuse it from now on, if a late copy of its acquire may still come.
--
-- KEYS[1]  lease key, as in quorum_acquire
-- KEYS[2]  fence key, as in quorum_acquire
-- KEYS[3..n]  only of a lease that was held: hints key, as in quorum_acquire
-- ARGV[1]  owner id
-- ARGV[2]  how long to refuse it, milliseconds; 0 for not at all
-- Returns  1 when this owner had the lease, 0 when not
-- Retry    safe: what is taken back stays so
local owner, memory = ARGV[1], ARGV[2]
local call = redis.call

-- The DEL comes first: a server that is out of memory lets a script write whose first write frees some.
local holder = call('GET', KEYS[1])
local had = 0
if holder == owner or holder == '~' .. owner then had = call('DEL', KEYS[1]) end
if had == 1 and KEYS[3] and holder ~= owner then
  local first = call('ZRANGE', KEYS[3], 0, 0)[1]
  if first then
    call('ZREM', KEYS[3], first)
    local id, channel = string.match(first, '^(%S+) (.+)$')
    if id then redis.pcall(string.find(channel, '{', 1, true) and 'SPUBLISH' or 'PUBLISH', channel, id .. ' ' .. owner) end
  end
end
if memory == '0' then return had end

local time = call('TIME')
local ms = time[1] * 1000 + math.floor(time[2] / 1000)
local last = call('GET', KEYS[2]) or '0000000000000000'
local lines = ''
for line in string.gmatch(last, '\n[^\n]*') do
  local forgotten, who = string.match(line, '^\n(%d+) (.*)$')
  if not forgotten or (tonumber(forgotten) > ms and who ~= owner) then lines = lines .. line end
end
lines = lines .. string.format('\n%.0f ', ms + memory) .. owner
call('SET', KEYS[2], '~' .. string.match(last, '%d+') .. lines, 'PX', '172800000')
return had
