--- `tcmu-lua mod-builder`: the generator of fabric modules has a command line
--- of its own.

return {
  name = "mod-builder",
  about = "Generate the skeleton of a target fabric kernel module.",
  verbatim = true,

  run = function(argv) return require("tcm_mod_builder").main(argv) end,
}
