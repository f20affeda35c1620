-- quorum_acquire: one server's vote for a lease, under a ballot that becomes its token.
--
-- KEYS[1]  lease key: the owner id, with the lease's time to live; '~' before it while somebody waits
-- KEYS[2]  fence key: the highest ballot granted, 16 digits; while owners are to be remembered that have withdrawn, '~' and the ballot, and a
--          line "<until, ms of server time> <owner>" for each
-- KEYS[3]  marker, as in quorum_birth
-- KEYS[4..n]  only to wait: hints key, a sorted set of those who wait by when they came, ms of server time
-- ARGV[1]  owner id
-- ARGV[2]  time to live, milliseconds
-- ARGV[3]  ballot, 16 digits
-- ARGV[4]  "<max ttl, ms> <clock tolerance, ms>", as the marker has them
-- ARGV[5..n]  only to wait: "<id> <channel>" of who waits; a sharded channel if there is a '{' in it
-- Returns  {1, ballot, milliseconds left} when this owner has it, be it from before; {0, fence, milliseconds left, holder} when another has it;
--          {-1, fence} when the ballot is not above that; {-2, us of server time} when the ballot is too far ahead of it;
--          {-3, us until it votes} in quarantine; {-4} without a marker; {-5, settings} when the marker has others; {-6} when this owner has
--          withdrawn. Numbers may come as strings
-- Retry    safe: the same owner gets what it has and what is left; a higher ballot raises its own, nothing is extended
local owner, ttl, ballot, settings = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local call = redis.call
local found = call('MGET', KEYS[1], KEYS[2], KEYS[3])
local holder, last, marker = found[1], found[2], found[3]
if not marker then return {-4} end
if string.sub(marker, 76) ~= settings then return {-5, string.sub(marker, 76)} end

-- Server time in microseconds, as text of 16 digits, so texts compare as numbers do.
local time = call('TIME')
local now = time[1] .. string.sub('00000', #time[2]) .. time[2]
local votes = string.sub(marker, 42, 57)
if now < votes then return {-3, string.format('%.0f', votes - now)} end

-- What was forgotten is below the moment from which it votes; a fence that has expired, below yesterday.
local mark, lines = '', ''
if last and string.sub(last, 1, 1) == '~' then
  local ms = time[1] * 1000 + time[2] / 1000
  for line in string.gmatch(string.sub(last, 18), '\n[^\n]*') do
    local forgotten, who = string.match(line, '^\n(%d+) (.*)$')
    if not forgotten or tonumber(forgotten) > ms then
      if who == owner then return {-6} end
      lines = lines .. line
    end
  end
  if lines ~= '' then mark = '~' end
  last = string.sub(last, 2, 17)
end
if not last or last == '0000000000000000' then last = string.format('%016.0f', now - 86400000000) end

local waiter, told = ARGV[5], false
if holder and string.sub(holder, 1, 1) == '~' then holder, told = string.sub(holder, 2), true end
if holder and holder ~= owner then
  if waiter then
    -- Whose release finds the mark tells the first who waits. Who waits asks again within a tenth of a second, and so stays in there.
    -- A server that is full says no, and nobody is told there.
    if type(redis.pcall('ZADD', KEYS[4], 'NX', time[1] * 1000 + math.floor(time[2] / 1000), waiter)) == 'number' then
      call('PEXPIRE', KEYS[4], 5000)
      if not told then call('SET', KEYS[1], '~' .. holder, 'KEEPTTL') end
    end
  end
  return {0, last, call('PTTL', KEYS[1]), holder}
end
if holder and ballot <= last then return {1, last, call('PTTL', KEYS[1])} end
if last < votes then last = votes end
if ballot <= last then return {-1, last} end
if ballot > now and ballot - now > string.match(settings, '%d+$') * 1000 then return {-2, now} end
call('SET', KEYS[2], mark .. ballot .. lines, 'PX', '172800000')
if holder then return {1, ballot, call('PTTL', KEYS[1])} end
local others = ''
if waiter then
  call('ZREM', KEYS[4], waiter)
  if call('EXISTS', KEYS[4]) == 1 then others = '~' end
end
call('SET', KEYS[1], others .. owner, 'PX', ttl)
return {1, ballot, ttl}
