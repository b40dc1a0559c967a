// gelu_tanh(x) * up. gelu_tanh(x) = x/2 * (1 + tanh(u)) = x / (1 + exp(-2u)) with u = sqrt(2/pi) *
// (x + 0.044715 x^3): no tanh, whose error Vulkan does not bound, and no overflow to NaN.
float Geglu(float x, float up) {
  return x / (1.0 + exp(-2.0 * 0.79788456080286536 * (x + 0.044715 * x * x * x))) * up;
}
vec4 Geglu(vec4 x, vec4 up) {
  return x / (1.0 + exp(-2.0 * (0.79788456080286536 * (x + 0.044715 * x * x * x)))) * up;
}
