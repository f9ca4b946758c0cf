--- Rows against the unmodified tcmu-runner.
local measure = {}
return measure
