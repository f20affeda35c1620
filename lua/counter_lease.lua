-- counter_lease: take a block of numbers that nobody had.
--
-- KEYS[1]  counter key: the last number taken
-- ARGV[1]  how many
-- ARGV[2]  a number that they must be above, 0 or more
-- Returns  the last number of the block as a string
-- Retry    safe: a repetition takes another block, and the first is a gap
local key, count, floor = KEYS[1], ARGV[1], ARGV[2]
local call = redis.call

-- Numbers in Lua are doubles, so what may pass 2^53 is compared as text (without leading zeros) and added to by INCRBY.
local function less(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end

local stored = call('GET', key)
if stored and not string.match(stored, '^[1-9]%d*$') then
  return redis.error_reply('WRONGTYPE the key holds no number of an id generator')
end
-- Never below the time, so that a server that has lost its last writes, or all, does not give a number again; nor below what the caller
-- has had, should its clock have gone back as well.
local clock = call('TIME')
local base = string.format('%.0f', clock[1] * 1000000 + clock[2] - 1)
if less(base, floor) then base = floor end
if not stored or less(stored, base) then call('SET', key, base) end
local sum = redis.pcall('INCRBY', key, count)
if type(sum) == 'table' then return sum end
return call('GET', key)
