// pack.cuh: a few neighbouring elements that are loaded and stored at once.
//
// Pack<float, 4> is sixteen bytes: one load of a thread. The address must be a multiple of the pack's size.
#pragma once

template <typename Scalar, int Count>
struct alignas(Count * sizeof(Scalar)) Pack {
  Scalar at[Count];
};

template <typename Scalar, int Count>
__device__ Pack<Scalar, Count> load_pack(const Scalar* address) {
  return *reinterpret_cast<const Pack<Scalar, Count>*>(address);
}

template <typename Scalar, int Count>
__device__ void store_pack(Scalar* address, const Pack<Scalar, Count>& pack) {
  *reinterpret_cast<Pack<Scalar, Count>*>(address) = pack;
}

template <typename Scalar, int Count>
__device__ Pack<Scalar, Count> zero_pack() {
  Pack<Scalar, Count> pack;
#pragma unroll
  for (int i = 0; i < Count; ++i) pack.at[i] = Scalar(0);
  return pack;
}
