"""TEMPORARY: torch's optimizers until thalweg.create exists."""
import torch
def create(name, params, **kw):
    return dict(sgd=torch.optim.SGD,adagrad=torch.optim.Adagrad,adadelta=torch.optim.Adadelta,rmsprop=torch.optim.RMSprop,adam=torch.optim.Adam,adamw=torch.optim.AdamW,nadam=torch.optim.NAdam,lbfgs=torch.optim.LBFGS)[name](params, **kw)
