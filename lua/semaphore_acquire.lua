-- semaphore_acquire: take permits, all or none; where there are too few, or others wait, wait in the queue if asked to.
--
-- KEYS[1]  permits key: who holds how many, and until when
-- KEYS[2]  fence key: the last stamp, how many permits there are, who has withdrawn
-- KEYS[3]  queue key: those who wait
-- ARGV[1]  owner id
-- ARGV[2]  time to live, milliseconds
-- ARGV[3]  how many to take
-- ARGV[4]  how many there are; an error when others use it with another number
-- ARGV[5..n]  only to wait: claim in milliseconds, channel to wake (a sharded one if there is a '{' in it), ticket, and
--          until when the place was known to be kept
-- Returns  {stamp, milliseconds left} when granted; {0, milliseconds until the first of them ends, "<taken> <waiting> <whose that is>"}
--          when not, and behind that, of one who waits, {ticket, until when, ms, last stamp}; {-1, 0} when this owner has withdrawn: a
--          late duplicate, which takes nothing. Numbers may come as strings
-- Retry    safe: the same owner gets what is left of what he has; nothing is extended. Not with ticket '0'
local permits, fence, queue, owner, ttl, n, asked = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local claim, channel, ticket, dead = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local call = redis.call
local now = call('TIME')
-- include permit_queue

-- What it holds, if it does.
local function held()
  local ends = call('ZSCORE', permits, n .. ' ' .. owner)
  if ends and tonumber(ends) > ms then return {stamp, string.format('%.0f', ends - ms)} end
end
local before = held()
if before then return before end
if refused[owner] then return {-1, 0} end

local taken, waiting = used(), call('LLEN', queue)
if waiting > 0 and not claim or waiting > 0 and limit ~= asked then
  -- What looks used may be waited for by the dead alone.
  taken = serve()
  waiting = call('LLEN', queue)
  save()
end
if taken == 0 and waiting == 0 then
  limit, several = asked, ''
elseif limit == '0' then
  limit = asked
elseif limit ~= asked then
  return redis.error_reply('PERMITS it is in use with ' .. limit .. ' permits, and was asked for with ' .. asked ..
    ' (all users of a name must say the same number)')
end

if waiting == 0 and taken + n <= tonumber(limit) then
  take(owner, n, ttl)
  save()
  return {stamp, ttl}
end

local place = {}
if claim then
  -- First his place, since he is alive, and then those who fit, of whom he may be one. A place that was lost (a grant that lapsed, a
  -- silence, a server that forgot) is taken again in the order of tickets.
  local tail = ' ' .. claim .. ' ' .. n .. ' ' .. owner .. ' ' .. channel
  local alive = string.format('%.0f', ms + claim)
  local at = ticket ~= '0' and call('LPOS', queue, dead .. ' ' .. ticket .. tail)
  local younger
  if not at and ticket ~= '0' then
    for i, entry in ipairs(call('LRANGE', queue, 0, -1)) do
      local _, its_ticket, _, _, whose = string.match(entry, parts)
      if whose == owner then
        at, ticket = i - 1, its_ticket
        break
      end
      if not younger and ticket ~= '1' and its_ticket > ticket then younger = entry end
    end
  end
  if ticket == '0' or ticket == '1' then ticket = us end
  local entry = alive .. ' ' .. ticket .. tail
  if at then
    call('LSET', queue, at, entry)
  elseif younger then
    call('LINSERT', queue, 'BEFORE', younger, entry)
  else
    call('RPUSH', queue, entry)
  end
  call('PEXPIRE', queue, 60000)
  taken = serve(owner, ttl)
  save()
  local granted = held()
  if granted then return granted end
  waiting = call('LLEN', queue)
  place = {ticket, alive, stamp}
end
local first = call('ZRANGEBYSCORE', permits, after, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local whose = string.match(first[1] or '', ' (.*)') or '@nobody'
local left = string.format('%.0f', (first[2] or ms) - ms)
return {0, left, taken .. ' ' .. waiting .. ' ' .. whose, unpack(place)}
