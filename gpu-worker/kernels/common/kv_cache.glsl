// Where keys and values lie in a layer's cache plane: [block][kv head][16 tokens][head_dim],
// float32, (KV_F16) float16 in pairs or (KV_I8) int8 in fours. The rows of a head of int8 are
// followed by their scales, a float32 a row. A sequence's block table says which physical block
// holds a position. Needs step.glsl; HEAD_DIM and KV_HEADS are specialisation constants.

#ifdef KV_I8
const uint CACHE_HEAD = kBlockTokens * (HEAD_DIM + 4u);
#else
const uint CACHE_HEAD = kBlockTokens * HEAD_DIM;
#endif

// First element of a position's head.
uint CacheRow(uint tables_at, uint sequence, uint position, uint kv_head) {
  const uint block =
      step_words[tables_at + sequence * step.blocks_per_table + position / kBlockTokens];
  return (block * KV_HEADS + kv_head) * CACHE_HEAD + position % kBlockTokens * HEAD_DIM;
}

#ifdef KV_I8
// The word with the scale of a position's row.
uint ScaleWord(uint row, uint position) {
  const uint token = position % kBlockTokens;
  return (row + (kBlockTokens - token) * HEAD_DIM) / 4u + token;
}
vec4 UnpackInt8(uint v) {
  const int word = int(v);
  return vec4(bitfieldExtract(word, 0, 8), bitfieldExtract(word, 8, 8),
              bitfieldExtract(word, 16, 8), bitfieldExtract(word, 24, 8));
}
// Of values times 127 / the largest magnitude of their row.
uint PackInt8(vec4 v) {
  const ivec4 whole = ivec4(roundEven(v)) & 255;
  return uint(whole.x | whole.y << 8 | whole.z << 16 | whole.w << 24);
}
#endif
