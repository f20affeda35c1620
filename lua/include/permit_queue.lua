-- permit_queue: who holds permits, who waits for some, whose turn it is. Included by every script that can find room or make it.
--
-- Needs the locals call, permits, fence, queue, and now = call('TIME').
--
-- permits: a zset, "<how many> <owner>" by when they end, ms. What has ended counts no more, whether it is still there or not.
-- fence: "<last stamp, 16 digits> <permits there are>", '+' behind it when somebody may hold several, and a line "<forgotten, ms> <owner>"
-- for each owner who has withdrawn. Stamps rise from grant to grant, to tell the message of a new grant from that of an old one.
-- queue: as in lock_queue, with the number of permits instead of the kind. Channels as there.
local keep = '172800000'
local parts = '^(%d+) (%d+) (%d+) (%d+) (%S+) (.+)$'
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local us = now[1] .. string.sub('00000', #now[2]) .. now[2]
local after = '(' .. string.format('%.0f', ms)
local record = call('GET', fence) or ''
local stamp, limit, several = string.match(record, '^(%d+) (%d+)(%+?)')
if not stamp then stamp, limit, several = us, '0', '+' end
local lines, refused = '', {}
for line, forgotten, who in string.gmatch(record, '(\n(%d+) ([^\n]*))') do
  if tonumber(forgotten) > ms then
    lines = lines .. line
    refused[who] = true
  end
end

local function save()
  local now_so = stamp .. ' ' .. limit .. several .. lines
  if now_so ~= record then call('SET', fence, now_so, 'PX', keep) end
end

-- How many are taken: nothing is counted on the way, so nothing can leak.
local function used()
  if several == '' then return call('ZCOUNT', permits, after, '+inf') end
  local sum = 0
  for _, member in ipairs(call('ZRANGEBYSCORE', permits, after, '+inf')) do
    sum = sum + string.match(member, '^%d+')
  end
  return sum
end

local function take(owner, n, time)
  call('ZADD', permits, ms + time, n .. ' ' .. owner)
  call('ZREMRANGEBYSCORE', permits, '-inf', ms)
  if call('PTTL', permits) < time + 100 then call('PEXPIRE', permits, time + 100) end
  if n ~= '1' then several = '+' end
  stamp = stamp < us and us or string.format('%016.0f', stamp + 1)
end

-- Gives what is free to those who wait and are alive, in their order: one for whom there is not enough is waited for, and all behind him.
-- `asker`, if he is among them, gets it for his own `time` and needs no message. How many are taken then.
local function serve(asker, time)
  local taken = used()
  local entry = call('LINDEX', queue, 0)
  while entry do
    local dead, _, claim, n, owner, channel = string.match(entry, parts)
    if tonumber(dead) >= ms then
      if taken + n > tonumber(limit) then break end
      taken = taken + n
      if owner == asker then
        take(owner, n, time)
      else
        take(owner, n, claim)
        call(string.find(channel, '{', 1, true) and 'SPUBLISH' or 'PUBLISH', channel, owner .. ' ' .. stamp .. ' ' .. claim)
      end
    end
    call('LPOP', queue)
    entry = call('LINDEX', queue, 0)
  end
  return taken
end
