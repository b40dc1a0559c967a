#include "lib/model/tensors.h"

#include <set>
#include <string>

#include "gtest/gtest.h"

namespace tandem {
namespace {

ModelConfig SmallConfig() {
  ModelConfig c;
  c.vocab_size = 100;
  c.hidden_size = 24;
  c.ffn_size = 48;
  c.num_layers = 3;
  c.num_heads = 4;
  c.num_kv_heads = 2;
  c.head_dim = 8;
  return c;
}

TEST(Tensors, ShapesFollowTheConfiguration) {
  const ModelConfig c = SmallConfig();
  EXPECT_EQ(ShapeOf(c, TensorKind::kEmbedding), (TensorShape{100, 24}));
  EXPECT_EQ(ShapeOf(c, TensorKind::kQuery), (TensorShape{32, 24}));
  EXPECT_EQ(ShapeOf(c, TensorKind::kKey), (TensorShape{16, 24}));
  EXPECT_EQ(ShapeOf(c, TensorKind::kValue), (TensorShape{16, 24}));
  EXPECT_EQ(ShapeOf(c, TensorKind::kAttentionOutput), (TensorShape{24, 32}));
  EXPECT_EQ(ShapeOf(c, TensorKind::kFfnGate), (TensorShape{48, 24}));
  EXPECT_EQ(ShapeOf(c, TensorKind::kFfnDown), (TensorShape{24, 48}));
  EXPECT_EQ(ShapeOf(c, TensorKind::kQueryNorm), (TensorShape{1, 8}));
  EXPECT_EQ(ShapeOf(c, TensorKind::kPostFfnNorm), (TensorShape{1, 24}));
}

TEST(Tensors, AllTensorsOnceAndNamesAreUniqueAndParseBack) {
  const std::vector<TensorId> all = AllTensors(SmallConfig());
  EXPECT_EQ(all.size(), 2u + 3u * 13u);
  std::set<std::string> names, hugging_face, gguf;
  for (const TensorId id : all) {
    EXPECT_TRUE(names.insert(TensorName(id)).second) << TensorName(id);
    EXPECT_TRUE(hugging_face.insert(HuggingFaceName(id)).second);
    EXPECT_TRUE(gguf.insert(GgufName(id)).second);
    EXPECT_EQ(ParseTensorName(TensorName(id)), id);
  }
}

TEST(Tensors, AnEncoderMayHaveTwoMore) {
  ModelConfig c = SmallConfig();
  c.bidirectional = true;
  EXPECT_EQ(AllTensors(c).size(), 2u + 3u * 13u);
  c.dense_size = 96;
  EXPECT_EQ(AllTensors(c).size(), 4u + 3u * 13u);
  EXPECT_EQ(TensorsOf(c, WeightPart::kEmbedding, -1).size(), 4u);
  EXPECT_EQ(ShapeOf(c, TensorKind::kDenseUp), (TensorShape{96, 24}));
  EXPECT_EQ(ShapeOf(c, TensorKind::kDenseDown), (TensorShape{24, 96}));
  EXPECT_EQ(ParseTensorName(TensorName({TensorKind::kDenseUp})), TensorId{TensorKind::kDenseUp});
  EXPECT_EQ(GgufName({TensorKind::kDenseUp}), "dense_2.weight");
  EXPECT_EQ(GgufName({TensorKind::kDenseDown}), "dense_3.weight");
}

TEST(Tensors, NamesAsTheFilesSpellThem) {
  EXPECT_EQ(TensorName({TensorKind::kQuery, 3}), "layers.3.attention.query");
  EXPECT_EQ(TensorName({TensorKind::kEmbedding}), "embedding");
  EXPECT_EQ(HuggingFaceName({TensorKind::kQuery, 3}), "model.layers.3.self_attn.q_proj.weight");
  EXPECT_EQ(HuggingFaceName({TensorKind::kFinalNorm}), "model.norm.weight");
  EXPECT_EQ(GgufName({TensorKind::kQuery, 3}), "blk.3.attn_q.weight");
  EXPECT_EQ(GgufName({TensorKind::kPostFfnNorm, 12}), "blk.12.post_ffw_norm.weight");
  EXPECT_EQ(GgufName({TensorKind::kEmbedding}), "token_embd.weight");
}

TEST(Tensors, ParseRefusesOtherNames) {
  for (const char* name : {"", "embeddin", "layers.", "layers.3", "layers.3.", "layers.3.attention",
                           "layers.03.ffn.up", "layers.-1.ffn.up", "layers.99999999999.ffn.up",
                           "layers. 3.ffn.up", "layers.3.embedding"}) {
    EXPECT_EQ(ParseTensorName(name), std::nullopt) << name;
  }
}

TEST(Tensors, RegionsHoldHalfALayerOrTheEmbedding) {
  EXPECT_EQ(RegionName(WeightPart::kEmbedding, -1), "embedding");
  EXPECT_EQ(RegionName(WeightPart::kAttention, 3), "layer.3.attention");
  EXPECT_EQ(RegionName(WeightPart::kFfn, 3), "layer.3.ffn");
  const ModelConfig c = SmallConfig();
  EXPECT_EQ(TensorsOf(c, WeightPart::kEmbedding, -1).size(), 2u);
  EXPECT_EQ(TensorsOf(c, WeightPart::kAttention, 1).size(), 8u);
  EXPECT_EQ(TensorsOf(c, WeightPart::kFfn, 1).size(), 5u);
  for (const TensorId id : TensorsOf(c, WeightPart::kFfn, 1)) {
    EXPECT_EQ(id.layer, 1);
    EXPECT_EQ(PartOf(id.kind), WeightPart::kFfn);
  }
  EXPECT_TRUE(IsMatrix(TensorKind::kFfnUp));
  EXPECT_FALSE(IsMatrix(TensorKind::kFfnNorm));
  EXPECT_FALSE(IsPerLayer(TensorKind::kFinalNorm));
}

}  // namespace
}  // namespace tandem
