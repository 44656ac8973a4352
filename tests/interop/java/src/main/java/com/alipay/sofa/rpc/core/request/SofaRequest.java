/*
 * The request class that SOFARPC and sofa-bolt-node put on the wire, reduced to the fields that travel. It stands
 * under SOFARPC's name because Hessian writes the class name into the content.
 */
package com.alipay.sofa.rpc.core.request;

import java.io.Serializable;
import java.util.Map;

public final class SofaRequest implements Serializable {
    private static final long serialVersionUID = 7329530374415722876L;

    public String methodName;
    public String[] methodArgSigs;
    public String targetServiceUniqueName;
    public String targetAppName;
    public Map<String, Object> requestProps;
    /** The arguments follow the object in the content, one Hessian value each. */
    public transient Object[] methodArgs;
}
