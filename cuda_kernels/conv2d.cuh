// conv2d.cuh: the sizes of a two-dimensional convolution, as the convolution kernels take them.
//
// They always describe the forward convolution, whichever direction a kernel computes:
//
//     y[n, p, q, k] = b[k] + sum over c, r, s of  x[n, p sh + r dh - top, q sw + s dw - left, c] w[r, s, c, k]
//
//   x  [images, in_height,  in_width ]  pixels of groups * in_channels  channels, in_pitch  elements apart
//   y  [images, out_height, out_width]  pixels of groups * out_channels channels, out_pitch elements apart
//   w  [kernel_height, kernel_width, in_channels, groups * out_channels], contiguous
//
// in_channels and out_channels are those of one group: channels k of group g = k / out_channels read channels
// g * in_channels ... of x only. A pitch is at least the number of channels; what lies between is not touched.
// Arrays may have more than 2^31 elements, but the pixels of all images, one image and w each have fewer.
#pragma once

#define CONV2D_SIZES                                                                                                 \
  int images, int in_height, int in_width, int in_pitch, int out_height, int out_width, int out_pitch, int groups,   \
      int in_channels, int out_channels, int kernel_height, int kernel_width, int stride_height, int stride_width,   \
      int pad_top, int pad_left, int dilation_height, int dilation_width

// The parameters of that list, gathered.
#define CONV2D_GATHER_SIZES                                                                                          \
  Conv2dSizes {                                                                                                      \
    images, in_height, in_width, in_pitch, out_height, out_width, out_pitch, groups, in_channels, out_channels,      \
        kernel_height, kernel_width, stride_height, stride_width, pad_top, pad_left, dilation_height, dilation_width \
  }

struct Conv2dSizes {
  int images, in_height, in_width, in_pitch, out_height, out_width, out_pitch, groups, in_channels, out_channels;
  int kernel_height, kernel_width, stride_height, stride_width, pad_top, pad_left, dilation_height, dilation_width;

  __device__ long long in_pixels() const { return (long long)images * in_height * in_width; }
  __device__ long long out_pixels() const { return (long long)images * out_height * out_width; }
  __device__ int taps() const { return kernel_height * kernel_width; }
  // Elements from one row of w (one input channel of one tap) to the next.
  __device__ int weight_pitch() const { return groups * out_channels; }
};
