rockspec_format = "3.0"
package = "tcmu-lua"
version = "scm-1"
source = {
  url = "git+file://.",
}
description = {
  summary = "Serves Linux TCMU SCSI devices with handlers written in Lua",
  detailed = [[
    A small C host attaches to Linux TCMU devices (target_core_user, UIO) and
    answers their SCSI commands: READ and WRITE in C, everything else in a Lua
    coroutine per command.  The Lua module runs without root or kernel, on a
    simulated ring.]],
  license = "MIT",
}
supported_platforms = { "linux" }
dependencies = {
  "lua >= 5.4, < 5.5",
}
build = {
  type = "make",
  build_variables = {
    CFLAGS = "$(CFLAGS)",
    LUADIR = "$(LUADIR)",
    DATADIR = "$(PREFIX)",
  },
  install_variables = {
    PREFIX = "$(PREFIX)",
    BINDIR = "$(BINDIR)",
    LUADIR = "$(LUADIR)",
    LIBDIR = "$(LIBDIR)",
    DATADIR = "$(PREFIX)",
    MANDIR = "$(PREFIX)/man",
  },
}
test = {
  type = "busted",
}
