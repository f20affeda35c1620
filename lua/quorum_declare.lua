-- quorum_declare: declare this server part of a new deployment, so that it may vote at once: nothing was ever granted that it could have forgotten.
--
-- KEYS[1]  marker, as in quorum_birth
-- ARGV[1]  the longest lease, milliseconds
-- ARGV[2]  by how much clocks may differ, milliseconds
-- ARGV[3]  "check" to write nothing; "new" to write unless there is a marker; "force" to write over one
-- Returns  {1, run id} when it is, or would be, declared, or votes already with the same settings;
--          {0, why, what it has} when not: "cluster", "eviction", or "marker": it may have granted something
-- Retry    safe: once it is declared, a repetition finds that and changes nothing, unless forced, when nothing may be in use
local marker, max_ttl, tolerance, how = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local info = redis.call('INFO')
local run_id = string.match(info, '\nrun_id:(%x+)')
if string.match(info, '\ncluster_enabled:(%d)') == '1' then return {0, 'cluster', ''} end
local policy = string.match(info, '\nmaxmemory_policy:([%w-]+)')
if policy and policy ~= 'noeviction' then return {0, 'eviction', policy} end

local time = redis.call('TIME')
local now = time[1] .. string.sub('00000', #time[2]) .. time[2]
local noted = redis.call('GET', marker)
if noted and how ~= 'force' then
  local same = string.sub(noted, 1, 40) == run_id and string.sub(noted, 76) == max_ttl .. ' ' .. tolerance
  if same and string.sub(noted, 42, 57) <= now then return {1, run_id} end
  return {0, 'marker', noted}
end
if how ~= 'check' then redis.call('SET', marker, table.concat({run_id, now, now, max_ttl, tolerance}, ' ')) end
return {1, run_id}
