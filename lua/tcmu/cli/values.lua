--- Values on the command line, as argparse's `convert` wants them.

local option = require "tcmu.option"

local values = {}

--- Bytes: "64M", "1T".
function values.size(text)
  local bytes, why = option.parse_size(text)
  if bytes == 0 then return nil, "a size of 0 makes no device" end
  return bytes, why
end

--- A block size that TCMU takes.
function values.block_size(text)
  local n = option.parse_size(text)
  if not n or n < 512 or n & n - 1 ~= 0 then
    return nil, ("'%s' is no block size: 512, 1024, 2048, 4096 and so on")
                :format(text)
  end
  return n
end

--- A function for whole numbers from `least` to `most`.
function values.integer(least, most)
  return function(text)
    local n = math.tointeger(tonumber(text))
    if not n or n < least or n > most then
      return nil, ("'%s' is no whole number from %d to %d"):format(text, least,
                                                                  most)
    end
    return n
  end
end

--- Declares what names a device of the simulator.
function values.declare_device(command)
  command:argument "handler":description "A handler's name, or its file."
  command:argument "options":args "?"
    :description "Its options, such as path=/srv/disk.img;mode=ro."
  command:option "--size":argname "SIZE":convert(values.size)
    :default "64M":description "Size of the device."
  command:option "--block-size":argname "N":convert(values.block_size)
    :default "512":description "Bytes of a block."
end

--- "64 MiB", "1.5 GiB", "1000 bytes"
function values.show_size(n)
  for i, unit in ipairs { "TiB", "GiB", "MiB", "KiB" } do
    local scale <const> = 1 << 10 * (5 - i)
    if n >= scale and n * 10 % scale == 0 then
      local whole = n % scale == 0
      return (whole and "%d %s" or "%.1f %s"):format(
        whole and n // scale or n / scale, unit)
    end
  end
  return ("%d bytes"):format(n)
end

return values
