#include "lib/model/gemma3_shapes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

namespace tandem {
namespace {

// Parameters of the embedding and of all layers, in billions, as the models' names say.
double BillionsOf(const ModelConfig& c) {
  const double attention = 2.0 * (c.num_heads + c.num_kv_heads) * c.head_dim * c.hidden_size;
  const double ffn = 3.0 * c.hidden_size * c.ffn_size;
  return (c.num_layers * (attention + ffn) + 1.0 * c.vocab_size * c.hidden_size) / 1e9;
}

TEST(Gemma3Shape, HasTheSizesOfThePublishedModels) {
  const std::pair<const char*, double> models[] = {
      {"1b", 1.0}, {"4b", 3.9}, {"12b", 11.8}, {"27b", 27.0}};
  for (const auto& [name, billions] : models) {
    const auto shape = Gemma3Shape(name);
    ASSERT_TRUE(shape.ok()) << shape.status();
    EXPECT_TRUE(ValidateModelConfig(*shape).ok()) << ValidateModelConfig(*shape);
    EXPECT_NEAR(BillionsOf(*shape), billions, 0.02 * billions + 0.05) << name;
    EXPECT_EQ(std::count(shape->layer_is_global.begin(), shape->layer_is_global.end(), true),
              shape->num_layers / 6);
  }
}

TEST(Gemma3Shape, NamesWhatThereIsForAnother) {
  const auto shape = Gemma3Shape("9b");
  ASSERT_TRUE(absl::IsInvalidArgument(shape.status()));
  EXPECT_EQ(shape.status().message(), "expected the shape 1b, 4b, 12b or 27b, found '9b'");
}

}  // namespace
}  // namespace tandem
