-- json_set: store a whole JSON document, unless the key holds something that is no string.
--
-- KEYS[1]  document key
-- ARGV[1]  document
-- ARGV[2]  time to live, milliseconds; '' keeps the one the key has, 0 is for ever
-- Returns  1
-- Retry    unsafe: a replay could undo what another has written in between
local key, document, ttl = KEYS[1], ARGV[1], ARGV[2]
local length = redis.pcall('STRLEN', key)
if type(length) == 'table' then return length end  -- WRONGTYPE
if ttl == '' then
  redis.call('SET', key, document, 'KEEPTTL')
elseif ttl == '0' then
  redis.call('SET', key, document)
else
  redis.call('SET', key, document, 'PX', ttl)
end
return 1
