// Where keys and values lie in a layer's cache plane: [block][kv head][16 tokens][head_dim],
// float32 or (KV_F16) float16 in pairs. A sequence's block table says which physical block holds a
// position. Needs step.glsl; HEAD_DIM and KV_HEADS are specialisation constants.

// First element of a position's head.
uint CacheRow(uint tables_at, uint sequence, uint position, uint kv_head) {
  const uint block =
      step_words[tables_at + sequence * step.blocks_per_table + position / kBlockTokens];
  return ((block * KV_HEADS + kv_head) * kBlockTokens + position % kBlockTokens) * HEAD_DIM;
}
