-- Ends executions, each only while it runs under its owner, with all that follows.
-- ARGV: clock, origin, whether this is a reaper, number, and for each: id, node, epoch, the beginning of the
-- row as it must be (up to `cancel_requested`) and as it is to be (up to `paused`), job, status, ended, last
-- record of the row, whether it is kept, what becomes of the failures in a row, the job's last run, what
-- is rare (packed; empty for nothing), and when it started:
-- 1 first log line, 2 log lines, 3 retry, 4 chained, 5 fault, 6 its detail, 7 detail of a pause, 8 due, 9 fire.
-- Answers for each 0 refused, 1 applied, 2 applied and the job paused itself; and whether to hint; and, for a
-- reaper, the rows.
local reaper, count = ARGV[3] == '1', tonumber(ARGV[4])
local ids, job_ids = {}, {}
for c = 1, count do
  ids[c] = ARGV[5 + (c - 1) * 14]
  job_ids[c] = ARGV[10 + (c - 1) * 14]
end
local rows, jobs, runs, lives = {}, {}, {}, {}
for c, row in ipairs(get_all(P .. 'x', ids)) do rows[ids[c]] = row end
for c, state in ipairs(get_all(P .. 'job', job_ids)) do jobs[job_ids[c]] = state end
for c, run in ipairs(get_all(P .. 'run', job_ids)) do runs[job_ids[c]] = run end
local any_waiting = call('ZCARD', P .. 'is:pending') > 0
local hint, outcomes, told = false, {}, {}
local x_set, is, not_running, owned, ended, run_set, by_run = {}, {}, {}, {}, {}, {}, {}

local function follow(new, must_be_enabled)
  local h, after = open(new[2])
  local k, rest = open(after), new[3]
  local s = open(jobs[k[1]] or call('HGET', P .. 'job', k[1]))
  if s and (s[2] or not must_be_enabled) and insert_new(new[1], h, k, rest, s) then
    hint, any_waiting = true, true
  end
end

-- What the end means for the job; whether it has paused itself.
local function affect(job, started, fail, run, rare)
  local s
  local function state()
    s = s or open(jobs[job])
    return s
  end
  if rare and rare[8] and not state()[3] and not s[5] then
    unfile(job, s)
    s[3], s[4] = rare[8], rare[9]
    jobs[job] = file(job, s)
    hint = true
  end
  local failures = 0
  if fail ~= 'r' then
    local before = open(runs[job])
    failures = before and before[4] or 0
    if fail ~= 'k' then failures = failures + 1 end
    if failures > 0 then
      local r = open(run)
      r[4] = failures
      run = pack(r)
    end
  end
  runs[job] = run
  by_run[#by_run + 1] = started
  by_run[#by_run + 1] = job
  run_set[#run_set + 1] = job
  run_set[#run_set + 1] = run
  local most, paused = tonumber(fail:sub(2)), false
  if most and failures >= most and state()[2] then
    jobs[job] = change_by_scheduler(job, s, 'paused', rare[7], function(j) j[2] = false end)
    paused = true
  end
  if rare and rare[5] then jobs[job] = set_aside(job, state(), rare[5], rare[6]) end
  return paused
end

-- The row as it ends, whether somebody called it off, and the outcome when it does not end here and now.
--
-- Most rows run as they must, and nobody has called them off: then their beginning is replaced without being
-- read. The time they started takes nine bytes, and three things that are not there yet take one each.
local function ended_row(row, a, may_end, kept)
  local must, becomes = ARGV[a + 3], ARGV[a + 4]
  local n = #must
  if may_end and row and row:byte(n + 1) == 0xcf and row:sub(1, n) == must then
    return becomes .. row:sub(n + 13), false
  end
  local h, rest = open(row)
  if not h then
    -- What a live node ran can have gone only by its own completion, so this is its repeat.
    return nil, false, (not row and not reaper and may_end and not kept) and 1 or 0
  end
  local new = open(becomes .. '\194\194\194\194')
  if h[2] ~= new[2] or h[3] ~= new[3] or h[4] ~= new[4] then return nil, false, 0 end
  if h[1] == new[1] and h[7] == new[7] then return nil, false, reaper and 0 or (h[9] and 2 or 1) end
  if h[1] ~= 'running' or not may_end then return nil, false, 0 end
  for i = 10, #h do new[i] = h[i] end
  new[5] = h[5]
  return pack(new) .. rest, h[5]
end

local last_node, last_epoch, who
for c = 1, count do
  local a = 5 + (c - 1) * 14
  local id, job, status = ids[c], job_ids[c], ARGV[a + 6]
  local kept = ARGV[a + 9] == '1'
  if ARGV[a + 1] ~= last_node or ARGV[a + 2] ~= last_epoch then
    last_node, last_epoch = ARGV[a + 1], ARGV[a + 2]
    who = last_node .. '\0' .. last_epoch
    if lives[who] == nil then
      lives[who] = reaper or (alive(last_node, tonumber(last_epoch)) and true or false)
      owned[who] = {}
    end
  end
  local row, called_off, outcome = ended_row(rows[id], a, lives[who], kept)
  if row then
    outcome = 1
    local rare = ARGV[a + 12] ~= '' and open(ARGV[a + 12]) or nil
    not_running[#not_running + 1] = id
    table.insert(owned[who], id)
    if called_off then call('SREM', P .. 'stop:' .. who, id) end
    if rare then
      if kept then append_logs(id, rare[1], rare[2]) end
      if rare[3] and not called_off then follow(rare[3], false) end
      for _, link in ipairs(rare[4]) do follow(link, true) end
    end
    if jobs[job] then
      if affect(job, ARGV[a + 13], ARGV[a + 10], ARGV[a + 11], rare) then
        local h, rest = open(row)
        h[9] = true
        row = pack(h) .. rest
        outcome = 2
      end
    end
    row = row .. ARGV[a + 8]
    if reaper then told[c] = row end
    if kept then
      rows[id] = row
      x_set[#x_set + 1] = id
      x_set[#x_set + 1] = row
      is[status] = is[status] or {}
      table.insert(is[status], 0)
      table.insert(is[status], id)
      ended[#ended + 1] = ARGV[a + 7]
      ended[#ended + 1] = id
      call('ZADD', P .. 'of:' .. job, ENDED, id)
    else
      rows[id] = false
      local h, rest = open(row)
      remove(id, h, rest)
    end
    if any_waiting and not hint then hint = call('ZCOUNT', P .. 'of:' .. job, QUEUED, WAITING) > 0 end
  end
  outcomes[c] = outcome
  told[c] = told[c] or false
end
bulk('HSET', P .. 'x', x_set)
bulk('ZREM', P .. 'is:running', not_running)
for status, list in pairs(is) do bulk('ZADD', P .. 'is:' .. status, list) end
for name, list in pairs(owned) do bulk('ZREM', P .. 'own:' .. name, list) end
bulk('ZADD', P .. 'ended', ended)
bulk('HSET', P .. 'run', run_set)
bulk('ZADD', P .. 'by_run', by_run)
if hint then changed() end
return { outcomes, hint, reaper and told or false }
