"""A variational autoencoder of digits: reparameterisation, binary cross-entropy plus KL divergence, samples."""

import torch
import torch.utils.data
from torch import nn, optim
from torch.nn import functional as F

images, labels = digits(256)
data = torch.from_numpy(images).to(torch.float32).div_(16.0).unsqueeze(1)
train_loader = torch.utils.data.DataLoader(data, batch_size=64, shuffle=False)
device = torch.device("cuda" if torch.cuda.is_available() and False else "cpu")


class VAE(nn.Module):
    def __init__(self):
        super(VAE, self).__init__()
        self.fc1 = nn.Linear(64, 40)
        self.fc21 = nn.Linear(40, 5)
        self.fc22 = nn.Linear(40, 5)
        self.fc3 = nn.Linear(5, 40)
        self.fc4 = nn.Linear(40, 64)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def decode(self, z):
        h3 = F.relu(self.fc3(z))
        return torch.sigmoid(self.fc4(h3))

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, 64))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


model = seeded(VAE()).to(device)
optimizer = optim.Adam(model.parameters(), lr=1e-3)


def loss_function(recon_x, x, mu, logvar):
    BCE = F.binary_cross_entropy(recon_x, x.view(-1, 64), reduction="sum")
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return BCE + KLD


history = []
for epoch in range(1, 4):
    model.train()
    train_loss = 0
    for batch_idx, data in enumerate(train_loader):
        data = data.to(device)
        optimizer.zero_grad()
        recon_batch, mu, logvar = model(data)
        loss = loss_function(recon_batch, data, mu, logvar)
        loss.backward()
        train_loss += loss.item()
        optimizer.step()
        history.append(loss.item() / len(data))
    print("====> Epoch: {} Average loss: {:.4f}".format(epoch, train_loss / len(train_loader.dataset)))
    with torch.no_grad():
        n = min(data.size(0), 8)
        comparison = torch.cat([data[:n], recon_batch.view(64, 1, 8, 8)[:n]])
        sample = torch.randn(16, 5).to(device)
        sample = model.decode(sample).cpu()
        grid = sample.view(16, 1, 8, 8).mul(255).add_(0.5).clamp_(0, 255).permute(0, 2, 3, 1).to("cpu", torch.uint8)
        print(tuple(comparison.shape), tuple(grid.numpy().shape))
