-- Makes a pending execution. ARGV: clock, origin, id, h and k, the rest of the row, idempotency key ('=' and
-- the text, or '-'), whether only when nothing is open.
-- Answers {0} no such job, {1, row} made, {2, row, id} exists, {3, id} busy, {4} another job's id.
local id = ARGV[3]
local h, after = open(ARGV[4])
local k = open(after)
local job = k[1]
local row = call('HGET', P .. 'x', id)
if row then
  local _, rest = open(row)
  if rest and open(rest)[1] ~= job then return { 4 } end
  return { 2, row, id }
end
if ARGV[6] ~= '-' then
  local seen = call('HGET', P .. 'keys', job .. '\0' .. ARGV[6]:sub(2))
  row = seen and call('HGET', P .. 'x', seen)
  if row then return { 2, row, seen } end
  k[8] = ARGV[6]:sub(2)
end
local s = state_of(job)
if not s then return { 0 } end
if ARGV[7] == '1' then
  local text = open_of(job)
  local first = text ~= '' and text:sub(2, 17)
    or call('ZRANGEBYSCORE', P .. 'of:' .. job, QUEUED, WAITING, 'LIMIT', 0, 1)[1]
  if first then return { 3, first } end
end
local seen = find_occurrence(job, k[2], slot(k[3], k[4]))
if seen then return { 2, call('HGET', P .. 'x', seen), seen } end
insert_new(id, h, k, ARGV[5], s)
changed()
return { 1, call('HGET', P .. 'x', id) }
