-- By hand: ends executions. KEYS: prefix. ARGV: now, first id (a number), row of the execution but for the job's id,
-- last run of the job but for the execution's id, jobs ...
local P, now, first = KEYS[1], ARGV[1], tonumber(ARGV[2])
local jobs, ids, rows, zeros, ended, runs, by_run = {}, {}, {}, {}, {}, {}, {}
for i = 1, #ARGV - 4 do
  local job, id = ARGV[i + 4], struct.pack('>I8I8', first + i, 7)
  jobs[i], ids[i] = job, id
  rows[2 * i - 1], rows[2 * i] = id, ARGV[3] .. job
  zeros[2 * i - 1], zeros[2 * i] = '0', id
  ended[2 * i - 1], ended[2 * i] = now, id
  runs[2 * i - 1], runs[2 * i] = job, ARGV[4] .. id
  by_run[2 * i - 1], by_run[2 * i] = now, job
end
redis.call('HMGET', P .. 'x', unpack(ids))
redis.call('HSET', P .. 'x', unpack(rows))
redis.call('HDEL', P .. 'open', unpack(jobs))
redis.call('ZREM', P .. 'is:running', unpack(ids))
redis.call('ZREM', P .. 'own:node', unpack(ids))
redis.call('ZADD', P .. 'is:success', unpack(zeros))
redis.call('ZADD', P .. 'ended', unpack(ended))
redis.call('HSET', P .. 'run', unpack(runs))
redis.call('ZADD', P .. 'by_run', unpack(by_run))
return #ids
