-- Records the events of several publishes as one entry of the stream, each publish whole or not at all, in their order.
-- args: 1: the queue; 2: the most events of the dedupe window; 3: the queue's shape, as the node knows it: how many
--       partitions, and `,latest` where each key's last event is known; 4: how many publishes; 5: what the partition may
--       hold (floor.lua); 6: how far the window reaches back, in milliseconds; 7: '1': events have a third argument;
--       8: the most events that may wait for their time;
--       then of each publish: the expected lineage, with `@name=number` of a lease it was made under; the outbox, its first number ('' each where there is none), how many
--       events, and of each event its digest (16 bytes), itself, and the third: its key's digest (16 bytes), the version
--       it expects, `:`, when it is due ('' each where there is none).
-- Answers 0 if the queue has another shape; else of each publish
--   {0}: the lineage isn't the expected one; {1, n}: number n is next; {3}: the partition is full;
--   {4, i, v}: the i-th expects another version than v, which its key has; {5, i}: the i-th can't wait, too many do;
--   {7, n}: number n of its lease was seen; {6}: versions aren't known at the moment;
--   {2, p, ...}: where each event is recorded; -p: was recorded before, 0: before, nobody knows where;
--                {when it is due, 1: it waited already}.
local RUNS = 16

if part.partitions and part.partitions ~= args[3] then return 0 end

opens(args[1], args[2], args[6], args[3]:find(',', 1, true) ~= nil)
local limit = limits(args[5])
local STEP = args[7] == '1' and 3 or 2
local MOST = tonumber(args[8])

-- What is said of an event besides itself: by the place of its digest.
local more = {}
local publishes, asked = {}, {}
local at = 9
for i = 1, tonumber(args[4]) do
    local expected, lease, number = args[at]:match('^(%d*)@?([^=]*)=?(%d*)$')
    local publish = { expected = expected, lease = lease, number = tonumber(number), outbox = args[at + 1], at = at + 4 }
    publish.no, publish.count = tonumber(args[at + 2]), tonumber(args[at + 3])
    at = publish.at + STEP * publish.count
    publish.last = at - 1
    if publish.outbox == '' and log.reach > 0 then
        for event = publish.at, publish.last, STEP do asked[#asked + 1] = args[event] end
    end
    if STEP == 3 then
        for event = publish.at, publish.last, STEP do
            local version, due = args[event + 2]:match('^(%d*):(%d*)$', 17)
            local said = { key = args[event + 2]:sub(1, 16), version = tonumber(version), due = tonumber(due) }
            if said.due and said.due <= part.now then said.due = nil end
            publish.expects = publish.expects or said.version ~= nil
            publish.waits = (publish.waits or 0) + (said.due and 1 or 0)
            more[event] = said
        end
    end
    publishes[i] = publish
end
local NOTHING = {}
local function said(event) return more[event] or NOTHING end

local window = {}
if #asked > 0 then
    for i, found in ipairs(redis.call('HMGET', DEDUPE, unpack(asked))) do
        if found then window[asked[i]] = within(found) end
    end
end

-- An outbox: its last number, and the latest runs of numbers at consecutive positions.
local outboxes = {}
local function outbox(name)
    if not outboxes[name] then
        local found = { runs = {} }
        local stored = redis.call('HGET', META, 'p:' .. name)
        if stored then
            local last, runs = stored:match('^(%d+)|(.*)$')
            found.last = tonumber(last)
            for no, position, count in runs:gmatch('(%d+):(%d+):(%d+)') do
                found.runs[#found.runs + 1] = { tonumber(no), tonumber(position), tonumber(count) }
            end
        end
        outboxes[name] = found
    end
    return outboxes[name]
end

-- position: nil for what waits.
local function numbered(from, no, position)
    from.last, from.changed = no, true
    if not position then return end
    local run = from.runs[#from.runs]
    if run and run[1] + run[3] == no and run[2] + run[3] == position then
        run[3] = run[3] + 1
    else
        from.runs[#from.runs + 1] = { no, position, 1 }
        if #from.runs > RUNS then table.remove(from.runs, 1) end
    end
end

local function position_of(from, no)
    for i = #from.runs, 1, -1 do
        local run = from.runs[i]
        if no >= run[1] and no < run[1] + run[3] then return run[2] + no - run[1] end
    end
end

-- Where an event was recorded before, if it was; 0: nobody knows where. Or when it is due, if it waits.
local function known(from, no, event)
    local digest = args[event]
    local is_old = from and from.last and no <= from.last
    local before
    if is_old then
        before = position_of(from, no)
        if not before then
            -- It was to wait, or it is too long ago.
            local found = redis.call('HGET', DEDUPE, digest)
            before = found and within(found)
        end
    elseif not from then
        before = window[digest]
    end
    if before then return before end
    local due = due_of(digest)
    if due then return nil, due end
    return is_old and 0 or nil
end

-- Calls with each event of a publish that is new, until that answers something.
local function each_new(publish, from, visit)
    local no = publish.no
    for event = publish.at, publish.last, STEP do
        local before, due = known(from, no, event)
        if not before and not due then
            local answer = visit(event, (event - publish.at) / STEP)
            if answer then return answer end
        end
        if from then no = no + 1 end
    end
end

-- Whether there is room for what is new of a publish.
local function fits_in(publish, from)
    if not limit then return true end
    local count, bytes = 0, 0
    each_new(publish, from, function(event)
        if not said(event).due then count, bytes = count + 1, bytes + #args[event + 1] end
    end)
    return count == 0 or room(limit, first, count, bytes)
end

-- The version of each key, with what this script records.
local versions = {}
local function version_of(key)
    if not versions[key] then
        local position = tonumber(redis.call('ZSCORE', VIEW, key) or 0)
        -- What was trimmed is its key's last event no more.
        versions[key] = position >= part.floor and position or 0
    end
    return versions[key]
end

-- What keeps a publish out that expects versions, or has events that wait.
local function objection(publish, from)
    if publish.expects and view_is_lost() then return { 6 } end
    local position, room_left = part.seq, MOST - part.waiting
    local later, again = {}, {}
    return each_new(publish, from, function(event, index)
        local digest, of = args[event], said(event)
        if again[digest] and not from then return nil end
        again[digest] = true
        if of.due then
            room_left = room_left - 1
            return room_left < 0 and { 5, index } or nil
        end
        local current = later[of.key] or of.version and version_of(of.key)
        if of.version and of.version ~= current then return { 4, index, current } end
        position = position + 1
        later[of.key] = position
    end)
end

-- A later number of the lease that a publish was made under, if one was seen.
local function later(publish)
    if not publish.number then return nil end
    local field = 'f:' .. publish.lease
    local seen = tonumber(redis.call('HGET', META, field) or 0)
    if seen > publish.number then return seen end
    if seen < publish.number then redis.call('HSET', META, field, int(publish.number)) end
end

local answers = {}
for i, publish in ipairs(publishes) do
    local from, no = publish.outbox ~= '' and outbox(publish.outbox), publish.no
    local outlived = later(publish)
    local objected = STEP == 3 and (publish.expects or publish.waits > 0) and objection(publish, from)
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
for name, from in pairs(outboxes) do
    if from.changed then
        local runs = {}
        for i, run in ipairs(from.runs) do runs[i] = int(run[1]) .. ':' .. int(run[2]) .. ':' .. int(run[3]) end
        changed[#changed + 1] = 'p:' .. name
        changed[#changed + 1] = int(from.last) .. '|' .. table.concat(runs, ',')
    end
end
if #digests > 0 or #changed > 0 or part.scheduled then
    changed[#changed + 1] = 'partitions'
    changed[#changed + 1] = args[3]
end
append(changed)
scheduled()
return answers
