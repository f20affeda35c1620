-- list_append: append to a list in every way that list_push does not know: with caps by bytes or age, rejecting, or with an operation id.
--
-- KEYS[1]  list key
-- KEYS[2]  record key: "<number of the newest item>", or "<number> <bytes> <age>": what all items have together, '-' when that is not
--          counted; how old they get in milliseconds, '-' when that does not matter. 4e15 is added to the number while somebody waits
-- KEYS[3]  times key, where age matters: for each push, oldest first, "<ms> <number of its newest item>"
-- KEYS[4]  followers key, as in include/list_wake.lua
-- KEYS[5..n]  only with an operation id: recent and older answers, as in include/once.lua
-- ARGV[1]  the most items to keep
-- ARGV[2]  time to live in milliseconds, or '' to leave it alone
-- ARGV[3]  the most bytes to keep, or ''
-- ARGV[4]  the greatest age, milliseconds, or ''
-- ARGV[5]  beyond the cap: 'drop' (the oldest) or 'reject' (change nothing)
-- ARGV[6]  how many items
-- ARGV[7..n]  items, oldest first; then, only with an operation id: the id, the fingerprint of all this, how long to keep the answer, ms
-- Returns  {length afterwards, items dropped, sequence number of the newest item, 1 when applied, 0 when rejected}
-- Retry    unsafe: a repetition pushes again, but for one with an operation id, which gets the first one's answer
local list, sequence, times, followers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local cap, ttl, most, oldest, reject, count = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5] == 'reject', tonumber(ARGV[6])
local recent, older, id, fingerprint, window = KEYS[5], KEYS[6], ARGV[7 + count], ARGV[8 + count], ARGV[9 + count]
local call = redis.call
-- include once
if id then
  local answer, refusal = answered(recent, older, id, fingerprint)
  if refusal then return refusal end
  if answer then
    local length, dropped, number, applied = string.match(answer, '^(%d+) (%d+) (%d+) (%d)$')
    return {tonumber(length), tonumber(dropped), tonumber(number), tonumber(applied)}
  end
end
local function finish(length, dropped, number, applied)
  if id then keep(recent, older, id, window, string.format('%s %.0f %.0f %.0f %d', fingerprint, length, dropped, number, applied)) end
  return {length, dropped, number, applied}
end

-- What is there. Keys of other types end it here, before anything is written.
local clock = call('TIME')
local ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
local record = call('GET', sequence)
local last, bytes, age = string.match(record or '0', '^(%d+) ?([%d-]*) ?([%d-]*)$')
if not last then return redis.error_reply('WRONGTYPE the record of the list is none') end
last, bytes, age = tonumber(last), tonumber(bytes), tonumber(oldest) or tonumber(age)
local waited = last >= 4e15
last = last % 4e15
local length = call('LLEN', list)

-- What items of these places have together.
local function weigh(from, to)
  local sum = 0
  for start = from, to, 128 do
    for _, item in ipairs(call('LRANGE', list, start, math.min(start + 127, to))) do sum = sum + #item end
  end
  return sum
end
if length == 0 then
  bytes = (bytes or most) and 0
elseif most and not bytes then
  bytes = weigh(0, length - 1)
end

-- How many are too old.
local expired = 0
if age then
  call('LLEN', times)
  local at = 0
  while true do
    local born, number = string.match(call('LINDEX', times, at) or '', '^(%d+) (%d+)$')
    if not born or born + age > ms then break end
    expired = number - (last - length)
    at = at + 1
  end
  expired = math.min(math.max(expired, 0), length)
end
local expired_bytes = bytes and expired > 0 and weigh(0, expired - 1) or 0
local added = 0
for i = 7, 6 + count do added = added + #ARGV[i] end
local left = length - expired
if reject and (left + count > cap or most and bytes - expired_bytes + added > most) then return finish(left, 0, last, 0) end

length = call('RPUSH', list, unpack(ARGV, 7, 6 + count))
local number = last + count
if length == count or last == 0 then number = math.max(number, clock[1] * 1000000 + clock[2] + count - 1) end
local dropped = math.max(expired, length - cap)
if bytes then
  bytes = bytes + added
  if dropped > 0 then bytes = bytes - weigh(0, dropped - 1) end
  while most and bytes > most and dropped < length - 1 do
    bytes = bytes - #call('LINDEX', list, dropped)
    dropped = dropped + 1
  end
  -- Where others have changed the list, the count may be wrong: it begins anew with what is left.
  if most and bytes > most then bytes = #ARGV[6 + count] end
end
if dropped > 0 then call('LTRIM', list, dropped, -1) end
length = length - dropped

local now_so = string.format('%.0f', number)
if bytes or age then
  now_so = string.format('%s %s %s', now_so, bytes and string.format('%.0f', bytes) or '-', age and string.format('%.0f', age) or '-')
end
if last == 0 then call('SET', sequence, now_so) else call('SET', sequence, now_so, 'KEEPTTL') end
local life = tonumber(ttl)
if age then
  life = math.min(life or age, age)  -- by then all is too old
  call('RPUSH', times, string.format('%.0f %.0f', ms, number))
  while tonumber(string.match(call('LINDEX', times, 0), '%d+$')) <= number - length do call('LPOP', times) end
  call('PEXPIRE', times, life + 60000)
end
if life then
  call('PEXPIRE', list, life)
  call('PEXPIRE', sequence, 16 * life + 604800000)
end
if waited then
  -- include list_wake
end
return finish(length, dropped, number, 1)
