-- Ends executions, each only while it runs under its owner, with all that follows.
-- ARGV: clock, origin, whether this is a reaper, number of executions, number of groups, and for each group of
-- such as end alike: number, node, epoch, the beginning of the row as it must be (up to `cancel_requested`) and
-- as it is to be (up to `paused`), status, ended, whether the row is kept, what becomes of the failures in a
-- row, the job's last run up to and without the execution, when it started, whether there is something rare; and
-- for each of its executions: id, job, last record of the row, and what is rare if there is (packed):
-- 1 first log line, 2 log lines, 3 retry, 4 chained, 5 fault, 6 its detail, 7 detail of a pause, 8 due, 9 fire.
-- Answers for each 0 refused, 1 applied, 2 applied and the job paused itself; and whether to hint; and, for a
-- reaper, the rows.
local reaper, count = ARGV[3] == '1', tonumber(ARGV[4])
local ids, job_ids, groups = {}, {}, {}
local at = 6
for g = 1, tonumber(ARGV[5]) do
  local step = ARGV[at + 11] == '1' and 4 or 3
  local n, first = tonumber(ARGV[at]), at + 12
  groups[g] = { at = at, n = n, first = first, step = step }
  at = first + n * step
  for a = first, at - 1, step do
    ids[#ids + 1] = ARGV[a]
    job_ids[#job_ids + 1] = ARGV[a + 1]
  end
end
local rows, states, opens, runs, lives = {}, {}, {}, {}, {}
for c, row in ipairs(get_all(P .. 'x', ids)) do rows[ids[c]] = row end
for c, text in ipairs(get_all(P .. 'open', job_ids)) do opens[job_ids[c]] = text or '' end
local any_waiting = call('ZCARD', P .. 'is:pending') > 0
local hint, outcomes, told = false, {}, {}
local x_set, is, ended, run_set, by_run = {}, {}, {}, {}, {}
-- How long those lists are: `#` counts anew each time.
local n_kept, n_ran = 0, 0

local function ran(job, started, run)
  runs[job] = run
  by_run[n_ran + 1], by_run[n_ran + 2] = started, job
  run_set[n_ran + 1], run_set[n_ran + 2] = job, run
  n_ran = n_ran + 2
end

local function follow(new, must_be_enabled)
  local h, after = open(new[2])
  local k, rest = open(after), new[3]
  local s = state_in(states[k[1]]) or state_of(k[1])
  if s and (s[2] or not must_be_enabled) and insert_new(new[1], h, k, rest, s) then
    hint, any_waiting = true, true
  end
end

-- The failures in a row so far, from what is stored or was written by an end before this one.
local function failures_of(job)
  local r = open(runs[job] or call('HGET', P .. 'run', job))
  return r and r[4] or 0
end

-- What the end means for the job; whether it has paused itself.
local function affect(job, started, fail, run, rare)
  local s
  local function state()
    s = s or state_in(states[job]) or state_of(job)
    return s
  end
  if rare and rare[8] and state() and not s[3] and not s[5] then
    unfile(job, s)
    s[3], s[4] = rare[8], rare[9]
    states[job] = file(job, s)
    hint = true
  end
  local failures = 0
  if fail ~= 'r' then
    failures = failures_of(job)
    if fail ~= 'k' then failures = failures + 1 end
  end
  ran(job, started, run .. (failures == 0 and '\0' or pack(failures)))
  local most, paused = tonumber(fail:sub(2)), false
  if most and failures >= most and state() and s[2] then
    states[job] = change_by_scheduler(job, s, 'paused', rare[7], function(j) j[2] = false end)
    paused = true
  end
  if rare and rare[5] and state() then states[job] = set_aside(job, s, rare[5], rare[6]) end
  return paused
end

-- The row as it ends, but for its last record, whether somebody called it off, and the outcome when it does not
-- end here and now.
local function ended_row(row, becomes, may_end, kept)
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

-- Takes an execution out of what of its job is open; answers whether the job is there.
local function close_one(job, id)
  local text, this = opens[job], 'r' .. id
  if text == this then
    opens[job] = ''
    return true
  end
  local there = text:find(this, 1, true)
  opens[job] = without(text, id)
  return there or (not text:find('d' .. id, 1, true) and call('HEXISTS', P .. 'job', job) == 1)
end

local c = 0
for _, group in ipairs(groups) do
  local a = group.at
  local node, epoch = ARGV[a + 1], ARGV[a + 2]
  local must, becomes, status, ended_at = ARGV[a + 3], ARGV[a + 4], ARGV[a + 5], ARGV[a + 6]
  local kept, fail, run, started = ARGV[a + 7] == '1', ARGV[a + 8], ARGV[a + 9], ARGV[a + 10]
  local who, n_must = node .. '\0' .. epoch, #must
  local lives_here = lives[who]
  if not lives_here then
    lives_here = { yes = reaper or (alive(node, tonumber(epoch)) and true or false), ids = {} }
    lives[who] = lives_here
  end
  local gone = lives_here.ids
  is[status] = is[status] or {}
  local of_status = is[status]
  local n_of, n_gone = #of_status, #gone
  for p = group.first, group.first + (group.n - 1) * group.step, group.step do
    c = c + 1
    local id, job = ARGV[p], ARGV[p + 1]
    local rare = group.step == 4 and open(ARGV[p + 3]) or nil
    local old, ending = rows[id], ARGV[p + 2]
    local row, called_off, outcome
    -- Most rows run as they must, and nobody has called them off: then their beginning is replaced without
    -- being read. The time they started takes nine bytes, and three things that are not there yet one each.
    -- Each new string costs the server time by its length, so that there is only one.
    if lives_here.yes and old and old:byte(n_must + 1) == 0xcf and old:find(must, 1, true) == 1 then
      row = becomes .. old:sub(n_must + 13) .. ending
    else
      row, called_off, outcome = ended_row(old, becomes, lives_here.yes, kept)
      if row then row = row .. ending end
    end
    if row then
      outcome = 1
      n_gone = n_gone + 1
      gone[n_gone] = id
      local there = close_one(job, id)
      if called_off then call('SREM', P .. 'stop:' .. who, id) end
      if rare then
        if kept then append_logs(id, rare[1], rare[2]) end
        if rare[3] and not called_off then follow(rare[3], false) end
        for _, link in ipairs(rare[4]) do follow(link, true) end
      end
      if there and fail == 'r' and not rare then
        -- As most end: nothing follows for the job.
        ran(job, started, run .. id .. '\0')
      elseif there and affect(job, started, fail, run .. id, rare) then
        local h, rest = open(row)
        h[9] = true
        row = pack(h) .. rest
        outcome = 2
      end
      if reaper then told[c] = row end
      if kept then
        rows[id] = row
        x_set[n_kept + 1], x_set[n_kept + 2] = id, row
        ended[n_kept + 1], ended[n_kept + 2] = ended_at, id
        of_status[n_of + 1], of_status[n_of + 2] = '0', id
        n_kept, n_of = n_kept + 2, n_of + 2
      else
        rows[id] = false
        local h, rest = open(row)
        remove(id, h, rest)
      end
      if any_waiting and not hint then hint = call('ZCOUNT', P .. 'of:' .. job, QUEUED, WAITING) > 0 end
    end
    outcomes[c] = outcome
    if reaper then told[c] = told[c] or false end
  end
end
local close_all, still_open = {}, {}
for job, text in pairs(opens) do
  if text == '' then
    close_all[#close_all + 1] = job
  else
    still_open[#still_open + 1] = job
    still_open[#still_open + 1] = text
  end
end
bulk('HDEL', P .. 'open', close_all)
bulk('HSET', P .. 'open', still_open)
bulk('HSET', P .. 'x', x_set)
for status, list in pairs(is) do bulk('ZADD', P .. 'is:' .. status, list) end
for name, owner in pairs(lives) do
  bulk('ZREM', P .. 'is:running', owner.ids)
  bulk('ZREM', P .. 'own:' .. name, owner.ids)
end
bulk('ZADD', P .. 'ended', ended)
bulk('HSET', P .. 'run', run_set)
bulk('ZADD', P .. 'by_run', by_run)
if hint then changed() end
return { outcomes, hint, reaper and told or false }
