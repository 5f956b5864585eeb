-- Records the events of several publishes as one entry of the stream, each publish whole or not at all, in their order.
-- args: 1: the queue; 2: the most events of the dedupe window; 3: the queue's shape, as the node knows it: how many
--       partitions, and `,latest` where each key's last event is known; 4: how many publishes; 5: what the partition may
--       hold (floor.lua); 6: how far the window reaches back, in milliseconds; 7: '1': events have a third argument;
--       8: the most events that may wait for their time;
--       then of each publish: the expected lineage, with `@name=number` of a lease it was made under; the outbox, its first
--       number ('' each where there is none), how many events, and of each event its digest (16 bytes), itself, and the
--       third: its key's digest (16 bytes), the version it expects, `:`, when it is due ('' each where there is none).
-- Answers 0 if the queue has another shape; else of each publish
--   {0}: the lineage isn't the expected one; {1, n}: number n is next; {3}: the partition is full;
--   {4, i, v}: the i-th expects another version than v, which its key has; {5, i}: the i-th can't wait, too many do;
--   {7, n}: number n of its lease was seen; {6}: versions aren't known at the moment;
--   {2, p, ...}: where each event is recorded; -p: was recorded before, 0: before, nobody knows where;
--                {when it is due, 1: it waited already}.
local limit = limits(args[5])
local MOST = tonumber(args[8])

-- Whether there is room for what is new of a publish.
local function fits_in(publish, from)
    if not limit then return true end
    local count, bytes = 0, 0
    each_new(publish, from, function(event)
        if not said(event).due then count, bytes = count + 1, bytes + #args[event + 1] end
    end)
    return count == 0 or room(limit, first, count, bytes)
end

local answers = {}
for i, publish in ipairs(publishes) do
    local from, no = publish.outbox ~= '' and outbox(publish.outbox), publish.no
    local outlived = later(publish)
    local objected = STEP == 3 and (publish.expects or publish.waits > 0) and objection(publish, from, MOST)
    if publish.expected ~= '' and publish.expected ~= part.lineage then
        answers[i] = { 0 }
    elseif outlived then
        answers[i] = { 7, outlived }
    elseif from and from.last and no > from.last + 1 then
        answers[i] = { 1, from.last + 1 }
    elseif objected then
        answers[i] = objected
    elseif not fits_in(publish, from) then
        answers[i] = { 3 }
        tell_rarely('QUEUE_FULL')
    else
        local answer = { 2 }
        for event = publish.at, publish.last, STEP do
            local digest, of = args[event], said(event)
            local before, due = known(from, no, event)
            if due then
                answer[#answer + 1] = { due, 1 }
            elseif before then
                answer[#answer + 1] = -before
            elseif of.due then
                schedule(digest, of.key, of.due, args[event + 1])
                answer[#answer + 1] = { of.due, 0 }
                if from then numbered(from, no, nil) end
            else
                local position = record(digest, of.key, args[event + 1])
                if log.reach > 0 then window[digest] = position end
                if log.view then versions[of.key] = position end
                answer[#answer + 1] = position
                if from then numbered(from, no, position) end
            end
            if from then no = no + 1 end
        end
        answers[i] = answer
    end
end

local changed = {}
tell_numbers(changed)
if #digests > 0 or #changed > 0 or part.scheduled then
    changed[#changed + 1] = 'partitions'
    changed[#changed + 1] = args[3]
end
append(changed)
scheduled()
return answers
