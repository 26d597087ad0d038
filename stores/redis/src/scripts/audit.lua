-- A page of the audit, newest first. ARGV: clock, origin, job ('=' and the id, or '-'), place to begin at (or
-- empty), how many.
-- Answers the entries and the place to go on at; of a job, places count back from its last entry.
local want = tonumber(ARGV[5])
local numbers, place = {}, tonumber(ARGV[4])
if ARGV[3] == '-' then
  place = place or tonumber(call('GET', P .. 'audit_n') or '0')
  for n = place, math.max(place - want + 1, 1), -1 do numbers[#numbers + 1] = n end
  place = place - want
else
  place = place or 0
  local key = P .. 'audit_of:' .. ARGV[3]:sub(2)
  local page = call('LRANGE', key, -place - want, -place - 1)
  for i = #page, 1, -1 do numbers[#numbers + 1] = page[i] end
  place = place + want
end
if #numbers == 0 then return { {}, place } end
return { get_all(P .. 'audit', numbers), place }
