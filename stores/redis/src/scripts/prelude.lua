-- What every script begins with.
--
-- KEYS[1] is the prefix of every key, with the namespace's hash tag in it, so that all of them are in one
-- slot. It is no key itself, and neither is KEYS[2]: while a slot moves from one node of a cluster to another,
-- a call that names two keys which are not there is answered with TRYAGAIN by both nodes. With one key or
-- none, the new node would run the script on what it does not have yet.
-- ARGV[1] is the caller's clock in milliseconds, or empty for the server's.
--
-- Three records are packed (MessagePack arrays, `false` for none):
--   job  s: 1 version, 2 enabled, 3 due, 4 fire, 5 ended, 6 fault, 7 skip_next, 8 n_fired, 9 updated,
--           10 handler, 11 priority, 12 max_running, 13 name, 14 own max_age, 15 own max_count, 16 generation,
--           17 recorded: of the schedule's own first attempts, none is due later than this
--   run  r: 1 last_run, 2 last_status, 3 last_execution, 4 failures
--   execution, three arrays in a row and, when it has ended, a fourth:
--        h: 1 status, 2 node, 3 epoch, 4 claim, 5 cancel_requested, 6 started, 7 ended, 8 reason, 9 paused,
--           10 handler, 11 priority, 12 run_at, 13 progress
--        k: 1 job, 2 due, 3 attempt, 4 nonce, 5 trigger, 6 created, 7 root, 8 idempotency key, 9 job name,
--           10 version
--        what only the client reads
local P = KEYS[1]
local ARGV = ARGV
local call, pack, unpack_one = redis.call, cmsgpack.pack, cmsgpack.unpack_one
local AUDIT_KEPT = 100000
-- Grows when older versions can't use the keys as they are from then on.
local FORMAT = '2'

local function mark_format()
  call('SET', P .. 'format', FORMAT, 'NX')
end

local NOW = tonumber(ARGV[1])
if not NOW then
  local time = call('TIME')
  NOW = time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The first record of `bytes`, and what follows it; nothing when it can't be read.
local function open(bytes)
  if not bytes then return nil end
  local ok, at, record = pcall(unpack_one, bytes, 0)
  if not ok or type(record) ~= 'table' then return nil end
  if at == -1 then return record, '' end
  return record, bytes:sub(at + 1)
end

local function bulk(command, key, list)
  for i = 1, #list, 4000 do
    call(command, key, unpack(list, i, math.min(i + 3999, #list)))
  end
end

local function get_all(key, ids)
  local found = {}
  if #ids > 0 and #ids <= 4000 then return call('HMGET', key, unpack(ids)) end
  for i = 1, #ids, 4000 do
    for j, value in ipairs(call('HMGET', key, unpack(ids, i, math.min(i + 3999, #ids)))) do
      found[i + j - 1] = value
    end
  end
  return found
end

local function changed()
  call('PUBLISH', P .. 'hints', ARGV[2])
end

-- ---- what is ready: one sorted set for each kind (j, x), priority and handler ----

local function lane(kind, handler, priority)
  return P .. 'lane:' .. kind .. ':' .. priority .. ':' .. handler
end

local function open_lane(handler, priority)
  call('SADD', P .. 'handlers', handler)
  call('SADD', P .. 'priorities:' .. handler, priority)
end

-- The lanes of these handlers: { priority, handlers }, from the highest priority.
local function lanes_of(handlers)
  local by, list = {}, {}
  for _, handler in ipairs(handlers) do
    for _, priority in ipairs(call('SMEMBERS', P .. 'priorities:' .. handler)) do
      if not by[priority] then
        by[priority] = { tonumber(priority), {} }
        list[#list + 1] = by[priority]
      end
      table.insert(by[priority][2], handler)
    end
  end
  table.sort(list, function(a, b) return a[1] > b[1] end)
  return list
end

-- Whether a job is due in these lanes, and when something is next after now.
local function look_ahead(lanes)
  local due, next_at = false, false
  for _, l in ipairs(lanes) do
    for _, handler in ipairs(l[2]) do
      local used = false
      for _, kind in ipairs({ 'j', 'x' }) do
        local key = lane(kind, handler, l[1])
        local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
        used = used or #first > 0
        if #first > 0 and tonumber(first[2]) <= NOW then
          due = due or kind == 'j'
          first = call('ZRANGEBYSCORE', key, '(' .. NOW, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
        end
        local at = tonumber(first[2])
        if at and (not next_at or at < next_at) then next_at = at end
      end
      if not used then call('SREM', P .. 'priorities:' .. handler, l[1]) end
    end
  end
  return due, next_at
end

-- ---- nodes: 1 epoch, 2 died, 3 joined, 4 seen, 5 lease_until, 6 info ----

-- The node, when it lives in this epoch.
local function alive(node, epoch)
  local n = open(call('HGET', P .. 'nodes', node))
  if n and n[1] == epoch and not n[2] then return n end
end

-- Nodes that died more than a day ago are forgotten.
local function forget_nodes()
  local all = call('HGETALL', P .. 'nodes')
  for i = 1, #all, 2 do
    local n = open(all[i + 1])
    if n and n[2] and NOW - n[2] > 86400000 then call('HDEL', P .. 'nodes', all[i]) end
  end
end

-- An owner whose node is dead and who has nothing left is forgotten.
local function forget_owner(owner)
  call('ZREM', P .. 'owners', owner)
  call('UNLINK', P .. 'stop:' .. owner)
end

-- ---- jobs ----

-- Tells a claim that is being planned that jobs have come, gone or changed.
local told_of_move = false
local function moved()
  if not told_of_move then call('INCR', P .. 'moves') end
  told_of_move = true
end

-- The state in these bytes; nothing when they can't be one.
local function state_in(bytes)
  local s = open(bytes)
  if not s or type(s[10]) ~= 'string' or type(s[13]) ~= 'string' then return nil end
  for _, i in ipairs({ 1, 7, 8, 9, 11, 12, 16 }) do
    if type(s[i]) ~= 'number' then return nil end
  end
  for _, i in ipairs({ 3, 4, 14, 15, 17 }) do
    if s[i] and type(s[i]) ~= 'number' then return nil end
  end
  if s[3] and not s[4] then return nil end
  return s
end

local function state_of(id)
  return state_in(call('HGET', P .. 'job', id))
end

local function scheduled(s)
  return s[2] and not s[6] and s[3]
end

local function member(key, id, belongs)
  call(belongs and 'SADD' or 'SREM', key, id)
end

local function unfile(id, s)
  moved()
  call('ZREM', lane('j', s[10], s[11]), id)
end

-- Puts a job where claims find it. Whatever claim holds it by now can't write any more what it planned.
local function ready(id, s)
  if scheduled(s) then
    moved()
    open_lane(s[10], s[11])
    call('ZADD', lane('j', s[10], s[11]), s[4], id)
  end
end

-- Writes a job's state, and every index over it.
local function file(id, s)
  local bytes = pack(s)
  call('HSET', P .. 'job', id, bytes)
  ready(id, s)
  call('ZADD', P .. 'by_due', s[3] or '+inf', id)
  member(P .. 'disabled', id, not s[2])
  member(P .. 'faulty', id, s[6])
  if s[14] or s[15] then
    call('ZADD', P .. 'retaining', 0, id)
  else
    call('ZREM', P .. 'retaining', id)
  end
  return bytes
end

-- Fails before anything is written, where a foreign key would stop the change of a job half-way.
local function may_change(id)
  call('HLEN', P .. 'audit')
  call('LLEN', P .. 'audit_of:' .. id)
  call('ZCARD', P .. 'of:' .. id)
end

local function add_audit(id, entry)
  local n = call('INCR', P .. 'audit_n')
  call('HSET', P .. 'audit', n, entry)
  call('RPUSH', P .. 'audit_of:' .. id, n)
  local old = open(call('HGET', P .. 'audit', n - AUDIT_KEPT))
  if old then
    call('HDEL', P .. 'audit', n - AUDIT_KEPT)
    call('LPOP', P .. 'audit_of:' .. old[2])
  end
end

local function audit(id, s, action, actor, due_before, detail)
  local due_after = scheduled(s) and s[3] or false
  add_audit(id, pack({ NOW, id, s[13], action, actor, s[1], due_before or false, due_after, detail }))
end

-- A change by the scheduler itself: a new version, with a record.
local function change_by_scheduler(id, s, action, detail, change)
  unfile(id, s)
  change(s)
  s[1] = s[1] + 1
  s[9] = NOW
  audit(id, s, action, 'scheduler', s[3], detail)
  return file(id, s)
end

local function set_aside(id, s, fault, detail)
  return change_by_scheduler(id, s, 'set_aside', detail, function(job) job[6] = fault end)
end

-- ---- the executions of a job: one sorted set for each job ----
--
-- Each execution is in it twice: by id, with one of the three scores below, and by its due time, as attempt,
-- nonce and id. No due time is as early as those scores.
local SETTLED, QUEUED, WAITING = '-9000000000000000', '-8999999999999999', '-8999999999999998'

local function slot(attempt, nonce)
  return struct.pack('>I4', attempt) .. nonce .. '\0'
end

-- The execution of this occurrence.
local function find_occurrence(job, due, place)
  for _, m in ipairs(call('ZRANGEBYSCORE', P .. 'of:' .. job, due, due)) do
    if #m == #place + 16 and m:sub(1, #place) == place then return m:sub(-16) end
  end
end

local function pending_score(k)
  return (k[5] == 'schedule' and k[3] == 1) and QUEUED or WAITING
end

-- ---- what of a job is open: in one text, 17 bytes each ----
--
-- `r` and the id of one that is running, `d` of one whose job was deleted meanwhile, `q` of one that its
-- schedule has queued.

-- How many are running, and how many are queued.
local function live(text)
  local running, all = 0, #text / 17
  for i = 1, #text, 17 do
    if text:byte(i) ~= 113 then running = running + 1 end
  end
  return running, all - running
end

local function without(text, id)
  for i = 1, #text, 17 do
    if text:sub(i + 1, i + 16) == id then return text:sub(1, i - 1) .. text:sub(i + 17) end
  end
  return text
end

-- The server keeps a small hash as a list, which it searches from the beginning for every field, and a batch of
-- what starts and ends is small. A value that is too long for a list keeps it from that. It has no job's id, for
-- it is no UTF-8.
local function never_a_list()
  call('HSETNX', P .. 'open', '\255', (' '):rep(65))
end

local function open_of(job)
  return call('HGET', P .. 'open', job) or ''
end

local function set_open(job, text)
  if text == '' then
    call('HDEL', P .. 'open', job)
  else
    call('HSET', P .. 'open', job, text)
  end
end

-- Notes of what is running that its job is gone (`d`), or there again (`r`).
local function mark_open(job, kind)
  local text, marked = open_of(job), {}
  for i = 1, #text, 17 do
    marked[#marked + 1] = (text:byte(i) == 113 and 'q' or kind) .. text:sub(i + 1, i + 16)
  end
  set_open(job, table.concat(marked))
end

local function add_open(job, kind, id)
  set_open(job, open_of(job) .. kind .. id)
end

local function close(job, id)
  set_open(job, without(open_of(job), id))
end

-- Notes that the schedule's own first attempt of this occurrence is there. Returns the state as it is then.
local function note_recorded(job, k, s)
  if s and k[3] == 1 and k[4] == '' and (not s[17] or k[2] > s[17]) then
    unfile(job, s)
    s[17] = k[2]
    return file(job, s)
  end
end

-- Adds a job with its three records.
local function add_job(id, s, run, definition)
  mark_format()
  local last = call('ZREVRANGE', P .. 'of:' .. id, 0, 0, 'WITHSCORES')[2]
  s[17] = tonumber(last or SETTLED)
  if last then mark_open(id, 'r') end
  file(id, s)
  call('HSET', P .. 'definition', id, definition)
  call('ZADD', P .. 'names', 0, s[13] .. '\0' .. id)
  call('ZADD', P .. 'by_id', 0, id)
  call('ZADD', P .. 'by_created', open(definition)[1], id)
  local r = open(run)
  call('ZADD', P .. 'by_run', r and r[1] or '+inf', id)
  if r then call('HSET', P .. 'run', id, run) end
end

-- ---- executions ----

local function own_key(node, epoch)
  return P .. 'own:' .. node .. '\0' .. epoch
end

local function stop_key(node, epoch)
  return P .. 'stop:' .. node .. '\0' .. epoch
end

local function insert_pending(id, h, k, rest)
  local job, score = k[1], pending_score(k)
  call('ZADD', P .. 'of:' .. job, score, id, k[2], slot(k[3], k[4]) .. id)
  call('HSET', P .. 'x', id, pack(h) .. pack(k) .. rest)
  call('ZADD', P .. 'is:pending', 0, id)
  if score == QUEUED then
    add_open(job, 'q', id)
    local s = state_of(job)
    if s then ready(job, s) end
  end
  open_lane(h[10], h[11])
  call('ZADD', lane('x', h[10], h[11]), h[12], id .. job)
  if k[7] then call('ZADD', P .. 'roots', 0, k[7] .. id) end
  if k[8] then call('HSET', P .. 'keys', job .. '\0' .. k[8], id) end
end

-- Makes what a request describes (id, h, k, rest) an execution of its job; `nil` when it is there already.
local function insert_new(id, h, k, rest, s)
  if call('HEXISTS', P .. 'x', id) == 1 or find_occurrence(k[1], k[2], slot(k[3], k[4])) then return nil end
  h[10], h[11] = s[10], s[11]
  k[6], k[9], k[10] = NOW, s[13], s[1]
  insert_pending(id, h, k, rest)
  note_recorded(k[1], k, s)
  return true
end

-- Ends a pending execution as cancelled; `ending` is its fourth record.
local function end_pending(id, h, rest, ending)
  local k = open(rest)
  call('ZREM', lane('x', h[10], h[11]), id .. k[1])
  call('ZREM', P .. 'is:pending', id)
  h[1], h[7] = 'cancelled', NOW
  call('HSET', P .. 'x', id, pack(h) .. rest .. ending)
  call('ZADD', P .. 'is:cancelled', 0, id)
  call('ZADD', P .. 'ended', NOW, id)
  call('ZADD', P .. 'of:' .. k[1], SETTLED, id)
  if pending_score(k) == QUEUED then close(k[1], id) end
end

-- Removes an execution that is in no index of open ones any more.
local function remove(id, h, rest)
  local k = open(rest)
  call('HDEL', P .. 'x', id)
  call('ZREM', P .. 'is:' .. h[1], id)
  call('ZREM', P .. 'ended', id)
  call('ZREM', P .. 'of:' .. k[1], id, slot(k[3], k[4]) .. id)
  if k[7] then call('ZREM', P .. 'roots', k[7] .. id) end
  if k[8] then call('HDEL', P .. 'keys', k[1] .. '\0' .. k[8]) end
  call('UNLINK', P .. 'log:' .. id)
end

local function is_final(h)
  return h[1] ~= 'pending' and h[1] ~= 'running'
end

-- Adds log lines, of which the first is number `first`; those that are there already are passed over.
local function append_logs(id, first, lines)
  if #lines == 0 then return end
  local key = P .. 'log:' .. id
  for i = call('LLEN', key) - first + 1, #lines do
    if i >= 1 then call('RPUSH', key, lines[i]) end
  end
end
