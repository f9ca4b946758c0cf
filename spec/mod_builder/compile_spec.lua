--- What the compiler, sparse and checkpatch say to generated modules.
-- spec/mod_builder/modules has built them with W=1 and C=1, against the headers
-- of Debian's kernels; here its logs are judged.  Pending where it has not run.

local builder = require "tcm_mod_builder"
local kernels = require "spec.mod_builder.kernels"

local BUILT <const> = "build/mod_builder/"

local function modules()
  local list = {}
  for name, protocol in
      assert(kernels.read "spec/mod_builder/modules.list"):gmatch "(%S+) (%S+)\n" do
    list[#list + 1] = { name = name, protocol = protocol }
  end
  return list
end

--- The lines of a log that name one of these files, and say something.
local function remarks(log, name)
  local list = {}
  for line in assert(kernels.read(log)):gmatch "[^\n]+" do
    if line:find(name, 1, true) and not line:find "^Skipping BTF generation"
       and not line:find "^Building " then
      list[#list + 1] = line
    end
  end
  return list
end

for _, version in ipairs { "6.1", "6.12" } do
  describe("for Linux " .. version, function()
    local root = BUILT .. version .. "/"

    --- Pending unless this module is there, made by the generator of today.
    local function fresh(name, protocol, dir)
      local headers = kernels.read(root .. "headers")
      if not headers then pending("run spec/mod_builder/modules first") end
      local now = assert(builder.generate { module = name, protocol = protocol,
        kernel = headers:match "[^\n]+" })
      for _, file in ipairs(now.files) do
        if kernels.read(dir .. "/" .. file.name) ~= file.text then
          pending("the generator has changed; run spec/mod_builder/modules")
        end
      end
      assert.same({}, now.unknown)
    end

    for _, module in ipairs(modules()) do
      it(("%s builds without a remark"):format(module.protocol), function()
        local dir = root .. module.name
        fresh(module.name, module.protocol, dir)
        assert.equal("\127ELF",
          kernels.read(("%s/%s.ko"):format(dir, module.name)):sub(1, 4))
        assert.same({}, remarks(dir .. ".log", module.name))
      end)
    end

    it("the example builds without a remark", function()
      local dir = root .. "lesson/SAS/tcm_lesson"
      if not kernels.read(dir .. "/tcm_lesson.ko") then
        pending("run spec/mod_builder/modules first")
      end
      assert.same({}, remarks(dir .. ".log", "tcm_lesson"))
    end)
  end)
end
