--- busted's configuration inside the guest.
return {
  default = {
    lpath = "./?.lua;./lua/?.lua;./lua/?/init.lua",
    cpath = "./build/?.so",
    output = "spec/vm/report.lua",
    ROOT = { "spec/vm" },
    pattern = "_spec",
  },
}
