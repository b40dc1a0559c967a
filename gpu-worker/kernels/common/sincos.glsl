// cos and sin of an angle in [0, 2^17], to about 1e-7: Vulkan promises no more than 2^-11, and that
// within one turn only. The angle is brought into [-pi/4, pi/4] by subtracting k * pi/2 in four
// parts (Cody and Waite); the first three products are exact in float32 for k < 2^17. Then the
// polynomials of Cephes' sinf and cosf.
vec2 CosSin(float angle) {
  const float k = floor(angle * 0.63661977236758134 + 0.5);
  precise float r = angle - k * 1.5625;          // 5 significant bits of pi/2
  r = r - k * 0.0081787109375;                   // the next 7
  r = r - k * 0.00011730194091796875;            // the next 7
  r = r - k * 3.1391647865048132e-7;             // the rest
  const float z = r * r;
  const float s = r + r * z * (-1.6666654611e-1 + z * (8.3321608736e-3 - z * 1.9515295891e-4));
  const float c =
      1.0 - 0.5 * z +
      z * z * (4.166664568298827e-2 + z * (-1.388731625493765e-3 + z * 2.443315711809948e-5));
  const uint quarter = uint(k) & 3u;
  const vec2 turned = (quarter & 1u) == 0u ? vec2(c, s) : vec2(-s, c);
  return (quarter & 2u) == 0u ? turned : -turned;
}
