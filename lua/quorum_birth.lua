-- quorum_birth: note since when this server remembers, unless that is noted; run first on every connection of a quorum's client.
--
-- KEYS[1]  marker: "<run id> <us from which it votes> <us when it was noted> <max ttl, ms> <clock tolerance, ms>". It never expires: a server
--          without it must not vote, and there is one a deployment
-- ARGV[1]  the longest lease, milliseconds
-- ARGV[2]  by how much clocks may differ, milliseconds
-- Returns  {1, run id, us of server time from which it votes, us of server time now}, times as strings;
--          {0, why, what it has} when this server or this client cannot take part: "cluster", "eviction" or "settings". Nothing is written then
-- Retry    safe: what is noted stays noted until the server starts anew
local marker, max_ttl, tolerance = KEYS[1], ARGV[1], ARGV[2]
local info = redis.call('INFO')
local run_id = string.match(info, '\nrun_id:(%x+)')
if string.match(info, '\ncluster_enabled:(%d)') == '1' then return {0, 'cluster', ''} end
local policy = string.match(info, '\nmaxmemory_policy:([%w-]+)')
if policy and policy ~= 'noeviction' then return {0, 'eviction', policy} end

local time = redis.call('TIME')
local now = time[1] .. string.sub('00000', #time[2]) .. time[2]
local noted = redis.call('GET', marker)
if noted then
  if string.sub(noted, 76) ~= max_ttl .. ' ' .. tolerance then return {0, 'settings', string.sub(noted, 76)} end
  if string.sub(noted, 1, 40) == run_id then return {1, run_id, string.sub(noted, 42, 57), now} end
end
-- Until then every lease and every ballot that it may have forgotten is past. After a restart that kept the data too: an append-only file can
-- lose its last second.
local votes = string.format('%016.0f', tonumber(now) + (max_ttl + tolerance) * 1000)
redis.call('SET', marker, table.concat({run_id, votes, now, max_ttl, tolerance}, ' '))
return {1, run_id, votes, now}
