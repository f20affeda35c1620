-- mutex_acquire: take the lease unless another owner holds it.
--
-- KEYS[1]  lease key: the owner id, with the lease's time to live
-- KEYS[2]  fence key: the last token, 16 digits; while owners are to be remembered that have withdrawn, '~' and the token, and a
--          line "<until, ms of server time> <owner>" for each
-- ARGV[1]  owner id
-- ARGV[2]  time to live, milliseconds
-- Returns  {token, milliseconds left} when granted; {0, milliseconds the holder has left, its owner id} when not;
--          {-1, 0} when this owner has withdrawn: a late duplicate, which takes nothing. Numbers may come as strings
-- Retry    safe: the same owner gets the same token and what is left; nothing is extended
local lease, fence, owner, ttl = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local call = redis.call

if not call('SET', lease, owner, 'NX', 'PX', ttl) then
  local holder = call('GET', lease)
  local left = call('PTTL', lease)
  if holder ~= owner then return {0, left, holder} end
  return {string.match(call('GET', fence) or '0', '%d+'), left}
end

-- Server time in microseconds, as text: 16 digits until the year 2286, so texts compare as numbers do. It makes tokens rise even where
-- the fence was lost. The fence outlives the longest lease (one day) by a day.
local now = call('TIME')
local us = now[2]
if #us < 6 then us = string.sub('00000', #us) .. us end
local token = now[1] .. us
local last = call('SET', fence, token, 'PX', '172800000', 'GET')
if not last or last < token then return {token, ttl} end

-- The clock has not moved since, or has stepped back, or somebody has withdrawn ('~' sorts behind all digits).
local ms = now[1] * 1000 + now[2] / 1000
local withdrawn, refused = '', false
for line, forgotten, who in string.gmatch(last, '(\n(%d+) ([^\n]*))') do
  if tonumber(forgotten) > ms then
    withdrawn = withdrawn .. line
    refused = refused or who == owner
  end
end
if refused then
  call('SET', fence, last, 'PX', '172800000')
  call('DEL', lease)
  return {-1, 0}
end
local given = string.match(last, '%d+')
if given >= token then token = string.format('%016.0f', given + 1) end
local mark = withdrawn == '' and '' or '~'
call('SET', fence, mark .. token .. withdrawn, 'PX', '172800000')
return {token, ttl}
