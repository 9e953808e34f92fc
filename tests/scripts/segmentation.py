"""A small U-Net with skips, spatial targets, an ignored label, Dice, a plateau schedule and a hook's heat map."""

import copy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class DoubleConv(nn.Module):
    def __init__(self, in_channels, out_channels, mid_channels=None):
        super().__init__()
        if not mid_channels:
            mid_channels = out_channels
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, mid_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(mid_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.GroupNorm(2, out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.double_conv(x)


class Up(nn.Module):
    def __init__(self, in_channels, out_channels, bilinear=True):
        super().__init__()
        if bilinear:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.conv = DoubleConv(in_channels, out_channels, in_channels // 2)
        else:
            self.up = nn.ConvTranspose2d(in_channels, in_channels // 2, kernel_size=2, stride=2)
            self.conv = DoubleConv(in_channels, out_channels)

    def forward(self, x1, x2):
        x1 = self.up(x1)
        diffY = x2.size()[2] - x1.size()[2]
        diffX = x2.size()[3] - x1.size()[3]
        x1 = F.pad(x1, [diffX // 2, diffX - diffX // 2, diffY // 2, diffY - diffY // 2])
        x = torch.cat([x2, x1], dim=1)
        return self.conv(x)


class UNet(nn.Module):
    def __init__(self, n_channels, n_classes):
        super().__init__()
        self.inc = DoubleConv(n_channels, 4)
        self.down1 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(4, 8))
        self.down2 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(8, 8))
        self.up1 = Up(16, 4)
        self.up2 = Up(8, 4)
        self.outc = nn.Conv2d(4, n_classes, kernel_size=1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x = self.up1(x3, x2)
        x = self.up2(x, x1)
        return self.outc(x)


def dice_coeff(input, target, epsilon=1e-6):
    assert input.size() == target.size()
    sum_dim = (-1, -2)
    inter = 2 * (input * target).sum(dim=sum_dim)
    sets_sum = input.sum(dim=sum_dim) + target.sum(dim=sum_dim)
    sets_sum = torch.where(sets_sum == 0, inter, sets_sum)
    dice = (inter + epsilon) / (sets_sum + epsilon)
    return dice.mean()


rng = np.random.default_rng(1)
images = torch.from_numpy(rng.standard_normal((8, 3, 18, 14)).astype("float32"))
masks = (images.mean(dim=1) > 0).long() + (images[:, 0] > 1).long()
masks[:, 0, :] = 255
valid = masks != 255

model = seeded(UNet(3, 3))
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, weight_decay=1e-8, momentum=0.9, foreach=True)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", patience=1)
criterion = nn.CrossEntropyLoss(ignore_index=255, weight=torch.tensor([1.0, 2.0, 1.5]))

history = []
best = None
for step in range(6):
    pred = model(images)
    loss = criterion(pred, masks)
    one_hot = F.one_hot(masks.clamp(max=2), 3).permute(0, 3, 1, 2).float()
    loss += 1 - dice_coeff(F.softmax(pred, dim=1)[:, 1:], one_hot[:, 1:])
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step(-loss.item())
    history.append(loss.item())
    if best is None or loss.item() < min(history[:-1], default=1e9):
        best = copy.deepcopy(model.state_dict())
print("%.4f" % history[-1], optimizer.param_groups[0]["lr"])

activations, gradients = {}, {}
layer = model.down2[1]
forward_handle = layer.register_forward_hook(lambda module, args, output: activations.update(value=output))
backward_handle = layer.register_full_backward_hook(lambda module, gi, go: gradients.update(value=go[0]))
model.load_state_dict(best)
model.eval()
score = model(images[:1])[0, 1].sum()
model.zero_grad()
score.backward()
weights = torch.mean(gradients["value"], dim=(2, 3), keepdim=True)
cam = F.relu((weights * activations["value"]).sum(dim=1, keepdim=True))
cam = F.interpolate(cam, size=images.shape[2:], mode="bilinear", align_corners=False)
cam -= cam.min()
cam /= cam.max() + 1e-8
forward_handle.remove()
backward_handle.remove()
history += cam.detach().flatten()[::17].tolist()
print("{:.1f}% of the pixels".format(100 * (pred.argmax(1) == masks)[valid].float().mean().item()))
