--- What specs ask of other programs.
local shell = {}

--- What a command prints, without white space at the end.
function shell.output(command)
  local pipe <close> = assert(io.popen(command))
  return (pipe:read("a"):gsub("%s+$", ""))
end

--- The name of a file that there is not, on a disk: /tmp may be in memory.
function shell.temporary()
  return shell.output "mktemp -u /var/tmp/tcmu-spec.XXXXXX"
end

return shell
