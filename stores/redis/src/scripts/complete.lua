-- Ends executions, each only while it runs under its owner, with all that follows.
-- ARGV: clock, origin, whether this is a reaper, number, and for each: id, node, epoch, claim, job, status,
-- started, ended, reason ('=' and the text, or '-'), last record of the row, whether it is kept, what
-- becomes of the failures in a row, the job's last run, and what is rare (packed; empty for nothing):
-- 1 first log line, 2 log lines, 3 retry, 4 chained, 5 fault, 6 its detail, 7 detail of a pause, 8 due, 9 fire.
-- Answers for each 0 refused, 1 applied, 2 applied and the job paused itself; and whether to hint; and, for a
-- reaper, the rows.
local reaper, count = ARGV[3] == '1', tonumber(ARGV[4])
local ids, job_ids = {}, {}
for c = 1, count do
  ids[c] = ARGV[5 + (c - 1) * 14]
  job_ids[c] = ARGV[9 + (c - 1) * 14]
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
local function affect(job, status, fail, run, rare)
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

for c = 1, count do
  local a = 5 + (c - 1) * 14
  local id, node, epoch, claim, job = ids[c], ARGV[a + 1], tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), job_ids[c]
  local status, started, over = ARGV[a + 5], tonumber(ARGV[a + 6]), tonumber(ARGV[a + 7])
  local kept = ARGV[a + 10] == '1'
  local who = node .. '\0' .. epoch
  if lives[who] == nil then lives[who] = reaper or (alive(node, epoch) and true or false) end
  local h, rest = open(rows[id])
  local outcome = 0
  if not h then
    -- What a live node ran can have gone only by its own completion, so this is its repeat.
    if not rows[id] and not reaper and lives[who] and not kept then outcome = 1 end
  elseif h[2] == node and h[3] == epoch and h[4] == claim then
    if h[1] == status and h[6] == over then
      outcome = h[9] and 2 or 1
      if reaper then outcome = 0 end
    elseif h[1] == 'running' and lives[who] then
      outcome = 1
      local rare = ARGV[a + 13] ~= '' and open(ARGV[a + 13]) or nil
      local called_off = h[7]
      h[1], h[5], h[6] = status, started, over
      h[8] = ARGV[a + 8] ~= '-' and ARGV[a + 8]:sub(2) or false
      not_running[#not_running + 1] = id
      local own = own_key(node, epoch)
      owned[own] = owned[own] or {}
      table.insert(owned[own], id)
      if called_off then call('SREM', stop_key(node, epoch), id) end
      if rare then
        if kept then append_logs(id, rare[1], rare[2]) end
        if rare[3] and not called_off then follow(rare[3], false) end
        for _, link in ipairs(rare[4]) do follow(link, true) end
      end
      if jobs[job] then
        by_run[#by_run + 1] = ARGV[a + 6]
        by_run[#by_run + 1] = job
        if affect(job, status, ARGV[a + 11], ARGV[a + 12], rare) then
          h[9] = true
          outcome = 2
        end
      end
      local row = pack(h) .. rest .. ARGV[a + 9]
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
        remove(id, h, rest)
      end
      if any_waiting and not hint then hint = call('ZCOUNT', P .. 'of:' .. job, QUEUED, WAITING) > 0 end
    end
  end
  outcomes[c] = outcome
  told[c] = told[c] or false
end
bulk('HSET', P .. 'x', x_set)
bulk('ZREM', P .. 'is:running', not_running)
for status, list in pairs(is) do bulk('ZADD', P .. 'is:' .. status, list) end
for key, list in pairs(owned) do bulk('ZREM', key, list) end
bulk('ZADD', P .. 'ended', ended)
bulk('HSET', P .. 'run', run_set)
bulk('ZADD', P .. 'by_run', by_run)
if hint then changed() end
return { outcomes, hint, reaper and told or false }
