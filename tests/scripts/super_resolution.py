"""Sub-pixel convolution for super-resolution: orthogonal initialisation, pixel shuffle, PSNR."""

from math import log10

import torch
import torch.nn as nn
import torch.nn.init as init
import torch.optim as optim
from torch.utils.data import DataLoader


class Net(nn.Module):
    def __init__(self, upscale_factor):
        super(Net, self).__init__()
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(1, 16, (5, 5), (1, 1), (2, 2))
        self.conv2 = nn.Conv2d(16, 8, (3, 3), (1, 1), (1, 1))
        self.conv3 = nn.Conv2d(8, upscale_factor ** 2, (3, 3), (1, 1), (1, 1))
        self.pixel_shuffle = nn.PixelShuffle(upscale_factor)
        self._initialize_weights()

    def forward(self, x):
        x = self.relu(self.conv1(x))
        x = self.relu(self.conv2(x))
        x = self.pixel_shuffle(self.conv3(x))
        return x

    def _initialize_weights(self):
        init.orthogonal_(self.conv1.weight, init.calculate_gain("relu"))
        init.orthogonal_(self.conv2.weight, init.calculate_gain("relu"))
        init.orthogonal_(self.conv3.weight)


images, _ = digits(64)
target = torch.as_tensor(images, dtype=torch.float32)[:, None] / 16
small = nn.functional.interpolate(target, scale_factor=0.5, mode="bilinear", align_corners=False)
bigger = nn.Upsample(scale_factor=2, mode="nearest")(small)
pairs = list(zip(small, target))
training_data_loader = DataLoader(dataset=pairs, num_workers=0, batch_size=16, shuffle=False)
testing_data_loader = DataLoader(dataset=pairs, num_workers=0, batch_size=8, shuffle=False)

model = seeded(Net(upscale_factor=2)).to("cpu")
criterion = nn.MSELoss()
optimizer = optim.Adam(model.parameters(), lr=0.01)

history = [criterion(bigger, target).item()]
for epoch in range(1, 4):
    epoch_loss = 0
    for iteration, batch in enumerate(training_data_loader, 1):
        input, wanted = batch[0], batch[1]
        optimizer.zero_grad()
        loss = criterion(model(input), wanted)
        epoch_loss += loss.item()
        loss.backward()
        optimizer.step()
    history.append(epoch_loss / len(training_data_loader))
    print("===> Epoch {} Complete: Avg. Loss: {:.4f}".format(epoch, epoch_loss / len(training_data_loader)))
    avg_psnr = 0
    with torch.no_grad():
        for batch in testing_data_loader:
            input, wanted = batch[0], batch[1]
            prediction = model(input)
            mse = criterion(prediction, wanted)
            psnr = 10 * log10(1 / mse.item())
            avg_psnr += psnr
    print("===> Avg. PSNR: {:.4f} dB".format(avg_psnr / len(testing_data_loader)))
    out = model(small[:1]).detach().clone().squeeze()
    out *= 255.0
    out = out.clip(0, 255).byte() if hasattr(out, "byte") else out
