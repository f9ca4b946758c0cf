/* main.c - runs a fuzz target on seeded random inputs, without libFuzzer.
 *
 *   ring [seed [runs]]      the same seed gives the same inputs
 *   ring FILE               one input, such as a crash that libFuzzer kept
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* xorshift64*: good enough, and the same everywhere */
static uint64_t next(uint64_t *state)
{
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return *state * UINT64_C(2685821657736338717) >> 16;
}

int main(int argc, char **argv)
{
  static uint8_t bytes[1 << 16];
  uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
  unsigned long runs = argc > 2 ? strtoul(argv[2], NULL, 10) : 2000, i;
  FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
  size_t size;

  if (file) {
    size = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    return LLVMFuzzerTestOneInput(bytes, size);
  }
  for (i = 0; i < runs; i++) {
    uint64_t state = (seed + i) * UINT64_C(0x9e3779b97f4a7c15) | 1;
    size_t n;

    size = next(&state) % 2000;
    for (n = 0; n < size; n++)
      bytes[n] = (uint8_t)next(&state);
    LLVMFuzzerTestOneInput(bytes, size);
  }
  printf("%lu inputs from seed %llu: nothing found\n", runs,
         (unsigned long long)seed);
  return 0;
}
