// What kernels share that fill matrix fragments themselves: cooperative matrices 16 x TILE_TOKENS x
// 16 of float16 that accumulate in float32, and how weights are decoded into them. Written in the
// NV dialect; the build makes KHR of it.
//
// Which element of a fragment lies where is the driver's own; this is for the map that
// matrix_map.comp confirms: with lane = 4r + t, slots 0 to 3 of A are row r, slots 4 to 7 row r +
// 8; of B token r and r + 8; each four columns that belong to t. The order of the columns is free,
// as long as both have the same. So t takes group t of a chunk of 128 columns.
#if TOKENS == 8
#define TILE_TOKENS 8
#else
#define TILE_TOKENS 16
#endif
#define TOKEN_TILES (TOKENS / TILE_TOKENS)

// The tool that makes KHR of this knows what a matrix type is for by these numbers.
layout(constant_id = 100) const uint A_ROWS = 16;
layout(constant_id = 101) const uint A_COLUMNS = 16;
layout(constant_id = 102) const uint B_ROWS = 16;
layout(constant_id = 103) const uint B_COLUMNS = TILE_TOKENS;
layout(constant_id = 104) const uint C_ROWS = 16;
layout(constant_id = 105) const uint C_COLUMNS = TILE_TOKENS;
#define MatrixA fcoopmatNV<16, gl_ScopeSubgroup, A_ROWS, A_COLUMNS>
#define MatrixB fcoopmatNV<16, gl_ScopeSubgroup, B_ROWS, B_COLUMNS>
#define MatrixC fcoopmatNV<32, gl_ScopeSubgroup, C_ROWS, C_COLUMNS>

f16vec2 Halves(uint pair) { return unpackFloat2x16(pair); }

// What Decode puts in front of weights, and what it multiplies high nibbles with. NVIDIA's compiler
// takes two instructions for an AND and an OR with numbers that it knows, one where the second
// comes from a register; so `nothing` is a zero that it cannot know. LEAN is for kernels that were
// faster with a few registers more to themselves.
#if defined(WEIGHT_INT4)
const uint MAGIC = 0x64006400u;
#else
const uint MAGIC = 0x64806480u;
#endif
uint magic = MAGIC;
f16vec2 sixteenth = f16vec2(0.0625hf);
void KeepConstants(uint nothing) {
#if !defined(LEAN)
  magic = MAGIC + nothing;
  sixteenth = Halves(0x2c002c00u + nothing);
#endif
}

// The eight weights of a word in the order of a slot: 0x6400 | n is 1024 + n, exactly.
void Decode(uint low, uint high, f16vec2 scale, out f16vec2 even_low, out f16vec2 odd_low,
            out f16vec2 even_high, out f16vec2 odd_high) {
#if defined(WEIGHT_INT4)
  const uint next = low >> 8;
  even_low = (Halves((low & 0x000f000fu) | magic) - f16vec2(1032.0hf)) * scale;
  odd_low = (Halves((next & 0x000f000fu) | magic) - f16vec2(1032.0hf)) * scale;
  // High nibbles come times 16.
  even_high = fma(Halves((low & 0x00f000f0u) | magic), sixteenth, f16vec2(-72.0hf)) * scale;
  odd_high = fma(Halves((next & 0x00f000f0u) | magic), sixteenth, f16vec2(-72.0hf)) * scale;
#else
  // The 0x80 makes 0..255 of -128..127.
  even_low = (Halves((low & 0x00ff00ffu) ^ magic) - f16vec2(1152.0hf)) * scale;
  odd_low = (Halves((low >> 8 & 0x00ff00ffu) ^ magic) - f16vec2(1152.0hf)) * scale;
  even_high = (Halves((high & 0x00ff00ffu) ^ magic) - f16vec2(1152.0hf)) * scale;
  odd_high = (Halves((high >> 8 & 0x00ff00ffu) ^ magic) - f16vec2(1152.0hf)) * scale;
#endif
}

// Four slots of a fragment, from `first` on.
#define SetSlots(fragment, first, a, b) \
  fragment[first] = (a).x;              \
  fragment[(first) + 1] = (a).y;        \
  fragment[(first) + 2] = (b).x;        \
  fragment[(first) + 3] = (b).y
